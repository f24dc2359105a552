/* A call on a regular file that waits for another process: opening a file on which another process has
 * a lease (fcntl(2)). */
#include "guest.h"

static volatile sig_atomic_t broken;
static int leased;

static void give_up(int signal) {
    (void)signal;
    broken++;
    CHECK(fcntl(leased, F_SETLEASE, F_UNLCK) == 0);
}

static void hold(const char *path) {
    leased = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(leased >= 0);
    CHECK(signal(SIGIO, give_up) != SIG_ERR);
    if (fcntl(leased, F_SETLEASE, F_WRLCK) != 0) {
        CHECK(errno == EINVAL || errno == EAGAIN); /* no leases on this file system */
        printf("no leases\n");
        exit(0);
    }
}

int main(void) {
    char path[80];
    snprintf(path, sizeof path, "%s/file", scratch_dir());
    for (int round = 0; round < 4; round++) {
        hold(path);
        broken = 0;
        sigset_t io, old;
        sigemptyset(&io);
        sigaddset(&io, SIGIO);
        CHECK(sigprocmask(SIG_BLOCK, &io, &old) == 0);
        pid_t child = fork();
        if (child == 0) {
            CHECK(close(leased) == 0);
            /* None of these calls waits; afterwards the library knows the site. */
            for (int n = 0; n < 6; n++) {
                int fd = open("/dev/null", round % 2 ? O_RDONLY : O_WRONLY);
                CHECK(fd >= 0 && close(fd) == 0);
            }
            struct timespec before, after;
            CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
            int fd = open(path, round % 2 ? O_RDONLY : O_WRONLY);
            CHECK(fd >= 0 && close(fd) == 0);
            CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
            long ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
            CHECK(ms < 20000); /* the lease was given up, and not taken away (/proc/sys/fs/lease-break-time) */
            _exit(3);
        }
        /* The child waits by now. */
        sleep_ms(50);
        CHECK(broken == 0);
        while (broken == 0) {
            sigsuspend(&old);
        }
        CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
        expect_exit(child, 3);
        CHECK(broken == 1 && close(leased) == 0);
    }
    printf("%s\n", path);
    return 0;
}

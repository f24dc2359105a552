/* prctl: names, the signal at a parent's death, privileges, dumpability, timer slack, capabilities. */
#include "guest.h"
#include <sys/prctl.h>

static volatile sig_atomic_t orphaned;

static void on_hup(int signal) {
    (void)signal;
    orphaned = 1;
}

int main(void) {
    char name[17] = "";
    CHECK(prctl(PR_SET_NAME, "fifteen-letters-and-more") == 0 && prctl(PR_GET_NAME, name) == 0);
    CHECK(strcmp(name, "fifteen-letters") == 0);
    int fd = open("/proc/self/comm", O_RDONLY);
    char text[32] = "";
    CHECK(fd >= 0 && read(fd, text, sizeof text) == 16 && memcmp(text, name, 15) == 0);

    int line[2];
    CHECK(pipe(line) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int ready[2];
        CHECK(pipe(ready) == 0);
        if (fork() == 0) {
            int wanted = 0;
            signal(SIGHUP, on_hup);
            sigset_t set, old;
            sigemptyset(&set);
            sigaddset(&set, SIGHUP);
            CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0);
            CHECK(prctl(PR_SET_PDEATHSIG, SIGHUP) == 0 && prctl(PR_GET_PDEATHSIG, &wanted) == 0 && wanted == SIGHUP);
            write_all(ready[1], "x", 1);
            while (!orphaned) {
                sigsuspend(&old);
            }
            write_all(line[1], "orphaned", 8);
            _exit(0);
        }
        read_all(ready[0], text, 1);
        _exit(3);
    }
    expect_exit(child, 3);
    close(line[1]);
    read_all(line[0], text, 8);
    CHECK(memcmp(text, "orphaned", 8) == 0 && read(line[0], text, 1) == 0);

    CHECK(prctl(PR_GET_DUMPABLE) >= 0 && prctl(PR_SET_DUMPABLE, 1) == 0 && prctl(PR_GET_DUMPABLE) == 1);
    CHECK(prctl(PR_SET_TIMERSLACK, 123456) == 0 && prctl(PR_GET_TIMERSLACK) == 123456);
    CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0 && prctl(PR_GET_KEEPCAPS) == 1);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_CAPBSET_READ, 0) >= 0 && prctl(PR_GET_SECCOMP) >= 0);
    int *address = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &address) == 0) {
        CHECK(address != NULL);
    }
    CHECK(prctl(12345678) == -1 && errno == EINVAL);
    printf("%d\n", getpid());
    return 0;
}

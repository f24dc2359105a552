// guest: heavy
/* Writing beyond the limit of a file's size: SIGXFSZ comes with the failing call, not later, even if
 * the limit comes from a parent, before exec or after. */
#include "guest.h"
#include <sys/resource.h>

#define LIMIT 10000

static volatile sig_atomic_t signals;

static void handler(int signal) {
    (void)signal;
    signals++;
}

static void limit(rlim_t bytes) {
    struct rlimit limit = {bytes, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/* Writes to a file in pieces of this size until the write fails. */
static void fill(size_t step) {
    static char bytes[4096];
    char path[] = "limit-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0);
    int before = signals;
    size_t size = 0;
    for (;;) {
        ssize_t n = write(fd, bytes, step);
        if (n < 0) {
            CHECK(errno == EFBIG && size == LIMIT);
            CHECK(signals == before + 1);
            break;
        }
        CHECK(signals == before);
        size += (size_t)n;
    }
    for (int round = 0; round < 5; round++) {
        before = signals;
        CHECK(write(fd, bytes, step) == -1 && errno == EFBIG && signals == before + 1);
        CHECK(pwrite(fd, bytes, step, LIMIT) == -1 && errno == EFBIG && signals == before + 2);
        CHECK(ftruncate(fd, LIMIT + 1) == -1 && errno == EFBIG && signals == before + 3);
    }
    close(fd);
}

int main(int argc, char **argv) {
    (void)argv;
    CHECK(signal(SIGXFSZ, handler) != SIG_ERR);
    if (argc > 1) {
        fill(1500);
        return signals > 0 ? 7 : 99;
    }
    pid_t child = fork();
    if (child == 0) {
        /* Many calls at these sites before there is a limit. */
        char path[] = "plain-XXXXXX";
        int fd = mkstemp(path);
        CHECK(fd >= 0 && unlink(path) == 0);
        for (int n = 0; n < 50; n++) {
            CHECK(write(fd, path, 5) == 5 && pwrite(fd, path, 5, n) == 5 && ftruncate(fd, n) == 0);
        }
        limit(LIMIT);
        fill(1000);
        fill(1300);
        fill(4096);
        execl("/proc/self/exe", "file_limit", "again", NULL);
        _exit(98);
    }
    expect_exit(child, 7);
    /* A process whose limit another process sets. */
    int pipe_fds[2];
    CHECK(pipe(pipe_fds) == 0);
    child = fork();
    if (child == 0) {
        char go;
        read_all(pipe_fds[0], &go, 1);
        fill(1000);
        _exit(signals);
    }
    struct rlimit other = {LIMIT, RLIM_INFINITY};
    CHECK(prlimit(child, RLIMIT_FSIZE, &other, NULL) == 0);
    write_all(pipe_fds[1], "x", 1);
    expect_exit(child, 16);
    /* A process that the limit kills. */
    child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_DFL);
        limit(LIMIT);
        fill(1000);
        _exit(98);
    }
    expect_death(child, SIGXFSZ);
    printf("%d\n", child);
    return 0;
}

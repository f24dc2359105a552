/* vfork children run in the parent's memory until they exec or exit. */
#include "guest.h"

int main(int argc, char **argv) {
    if (argc == 2) {
        printf("executed with %s, pid %d\n", argv[1], getpid());
        return 12;
    }
    volatile int shared = 0;
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        shared = getpid();
        _exit(1);
    }
    CHECK(shared == child); /* the parent's memory */
    expect_exit(child, 1);

    child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        shared = 2;
        execl("/proc/self/exe", argv[0], "again", NULL);
        _exit(127);
    }
    CHECK(shared == 2);
    expect_exit(child, 12);

    child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        execl("/nonexistent/program", "program", NULL);
        shared = errno;
        _exit(127);
    }
    CHECK(shared == ENOENT);
    expect_exit(child, 127);
    return 0;
}

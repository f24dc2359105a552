/* PR_SET_DUMPABLE: a process reads back the value that it has set; a fork inherits the value, and an
 * exec does not. */
#include "guest.h"
#include <sys/prctl.h>

int main(int count, char **words) {
    if (count > 1) {
        CHECK(prctl(PR_GET_DUMPABLE) == 1);
        return 7;
    }
    CHECK(prctl(PR_GET_DUMPABLE) == 1);
    for (int wrong = -1; wrong < 4; wrong++) {
        if (wrong != 0 && wrong != 1) {
            CHECK(prctl(PR_SET_DUMPABLE, (long)wrong) == -1 && errno == EINVAL);
        }
    }
    CHECK(prctl(PR_GET_DUMPABLE) == 1);
    for (int i = 0; i < 5; i++) {
        CHECK(prctl(PR_SET_DUMPABLE, i & 1L) == 0 && prctl(PR_GET_DUMPABLE) == (i & 1));
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(prctl(PR_GET_DUMPABLE) == 0);
        CHECK(prctl(PR_SET_DUMPABLE, 1L) == 0 && prctl(PR_GET_DUMPABLE) == 1);
        _exit(5);
    }
    expect_exit(child, 5);
    CHECK(prctl(PR_GET_DUMPABLE) == 0);
    child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        execl("/proc/self/exe", words[0], "executed", NULL);
        _exit(99);
    }
    expect_exit(child, 7);
    CHECK(prctl(PR_GET_DUMPABLE) == 0);
    /* Checkpoints and replays must read and write memory even if it is not dumpable. */
    printf("%d is not dumpable\n", getpid());
    return 0;
}

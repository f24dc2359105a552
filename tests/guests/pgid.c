/* Process groups and sessions; a new session contains only processes of its creator. */
#include "guest.h"

int main(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(getpgid(0) == getpgid(getppid()));
        CHECK(setsid() == getpid());
        CHECK(getsid(0) == getpid() && getpgrp() == getpid());
        CHECK(setpgid(0, 0) == -1 && errno == EPERM);
        pid_t grandchild = fork();
        CHECK(grandchild >= 0);
        if (grandchild == 0) {
            CHECK(getsid(0) == getppid());
            CHECK(setpgid(0, 0) == 0 && getpgrp() == getpid());
            _exit(0);
        }
        expect_exit(grandchild, 0);
        CHECK(kill(-grandchild, 0) == -1 && errno == ESRCH);
        dprintf(1, "session %d\n", getsid(0));
        _exit(6);
    }
    expect_exit(child, 6);
    CHECK(kill(-child, 0) == -1 && errno == ESRCH);
    CHECK(getsid(child) == -1 && errno == ESRCH);
    return 0;
}

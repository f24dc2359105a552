/* Pids, uids, sessions and groups; a child sees the pid of its parent. */
#include "guest.h"
#include <grp.h>

int main(void) {
    printf("pid %d ppid %d tid %ld pgid %d sid %d uid %d/%d gid %d/%d\n", getpid(), getppid(),
           (long)syscall(SYS_gettid), getpgrp(), getsid(0), (int)getuid(), (int)geteuid(), (int)getgid(),
           (int)getegid());
    CHECK(getpid() == syscall(SYS_gettid));
    uid_t r, e, s;
    CHECK(getresuid(&r, &e, &s) == 0);
    gid_t groups[256];
    int count = getgroups(256, groups);
    CHECK(count >= 0);
    for (int i = 0; i < count; i++) {
        printf("group %d\n", (int)groups[i]);
    }
    fflush(stdout);
    pid_t parent = getpid();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(getppid() == parent);
        CHECK(getpid() != parent);
        CHECK(getpid() == syscall(SYS_gettid));
        dprintf(1, "child %d of %d\n", getpid(), getppid());
        _exit(3);
    }
    expect_exit(child, 3);
    return 0;
}

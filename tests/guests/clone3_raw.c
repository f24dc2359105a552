/* Plain clone and clone3 with an exit signal, parent and child tid words, and no exit signal. */
#include "guest.h"
#include <linux/sched.h>

static volatile int child_tid, parent_tid;

int main(void) {
    long child = syscall(SYS_clone, SIGCHLD | CLONE_CHILD_SETTID | CLONE_PARENT_SETTID, NULL, &parent_tid,
                         &child_tid, 0);
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(child_tid == getpid());
        _exit(2);
    }
    CHECK(parent_tid == child && child_tid == 0);
    expect_exit((pid_t)child, 2);

    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.exit_signal = SIGCHLD;
    args.flags = CLONE_PARENT_SETTID;
    args.parent_tid = (uint64_t)(uintptr_t)&parent_tid;
    child = syscall(SYS_clone3, &args, sizeof args);
    if (child == 0) {
        _exit(3);
    }
    CHECK(child > 0 && parent_tid == child);
    expect_exit((pid_t)child, 3);

    child = syscall(SYS_clone, 0, NULL, NULL, NULL, 0); /* no exit signal: only __WALL and __WCLONE see it */
    CHECK(child >= 0);
    if (child == 0) {
        _exit(4);
    }
    CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
    int status;
    CHECK(waitpid((pid_t)child, &status, __WCLONE) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 4);
    printf("last child %ld\n", child);
    return 0;
}

/* Frozen forks are invisible without handlers, too: SIGCHLD is pending after a child's end and at no
 * other time. */
#include "guest.h"

int main(void) {
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    for (int i = 0; i < 10; i++) {
        for (int k = 0; k < 5; k++) {
            CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGCHLD));
        }
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            _exit(i);
        }
        siginfo_t info;
        CHECK(sigwaitinfo(&set, &info) == SIGCHLD);
        CHECK(info.si_pid == child && info.si_status == i);
        expect_exit(child, i);
        CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGCHLD));
        struct timespec none = {0, 0};
        CHECK(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN);
    }
    printf("ten, said %d\n", getpid());
    return 0;
}

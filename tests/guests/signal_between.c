/* Parent and child signal each other fifty times, each waiting in pause-like calls for the other. */
#include "guest.h"

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    pid_t other = child ? child : getppid();
    siginfo_t info;
    for (int i = 0; i < 50; i++) {
        if (child == 0) {
            CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_pid == other);
        }
        CHECK(kill(other, SIGUSR1) == 0);
        if (child != 0) {
            CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_pid == other);
        }
    }
    if (child == 0) {
        _exit(0);
    }
    expect_exit(child, 0);
    printf("%d and %d\n", getpid(), child);
    return 0;
}

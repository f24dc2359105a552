/* Blocked, ignored and pending signals are inherited over exec; handlers are not. */
#include "guest.h"

static void handler(int signal) {
    (void)signal;
    _exit(50);
}

int main(int argc, char **argv) {
    sigset_t set, pending;
    struct sigaction action;
    if (argc > 1) {
        CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0 && sigismember(&set, SIGUSR1));
        CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
        CHECK(sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
        CHECK(sigaction(SIGTERM, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
        siginfo_t info;
        CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_pid == getpid());
        printf("inherited in %d\n", getpid());
        return 0;
    }
    signal(SIGTERM, handler);
    signal(SIGUSR2, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0);
    execl("/proc/self/exe", argv[0], "again", NULL);
    CHECK(!"exec failed");
}

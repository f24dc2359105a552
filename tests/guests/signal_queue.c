/* Blocked real-time signals queue up in order; blocked ordinary ones do not. */
#include "guest.h"

static volatile sig_atomic_t count, order_ok = 1, last = -1, usr;

static void on_queued(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    order_ok &= info->si_value.sival_int == last + 1;
    last = info->si_value.sival_int;
    count++;
}

static void on_usr(int signal) {
    (void)signal;
    usr++;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_queued;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGRTMIN + 2, &action, NULL) == 0);
    signal(SIGUSR1, on_usr);
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 2);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0);
    for (int i = 0; i < 10; i++) {
        union sigval value = {.sival_int = i};
        CHECK(sigqueue(getpid(), SIGRTMIN + 2, value) == 0);
        CHECK(kill(getpid(), SIGUSR1) == 0);
    }
    CHECK(count == 0 && usr == 0);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    CHECK(count == 10 && order_ok && usr == 1);
    printf("in order, pid %d\n", getpid());
    return 0;
}

/* A handler for signals that the program sends itself, by raise, kill, tgkill and sigqueue. */
#include "guest.h"

static volatile sig_atomic_t count, value, code;
static volatile uintptr_t frame;

static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)signal;
    count++;
    code = info->si_code;
    value = info->si_value.sival_int;
    frame = (uintptr_t)context;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGRTMIN, &action, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0 && count == 1 && code == SI_TKILL);
    CHECK(kill(getpid(), SIGUSR1) == 0 && count == 2 && code == SI_USER);
    union sigval payload = {.sival_int = getpid()};
    CHECK(sigqueue(getpid(), SIGRTMIN, payload) == 0 && count == 3 && value == getpid() && code == SI_QUEUE);
    CHECK(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1) == 0 && count == 4);
    for (int i = 0; i < 50; i++) {
        CHECK(raise(SIGUSR1) == 0);
    }
    CHECK(count == 54);
    printf("%d signals, frame at %p\n", (int)count, (void *)frame);
    return 0;
}

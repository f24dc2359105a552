// guest: heavy
/* Two signals hit a loop without system calls; the handler of the first blocks the second, and checks
 * for it in each of the ways in which a program can check for a blocked signal. */
#include "guest.h"
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/time.h>

static volatile int mode, first, second;
static int signals_fd;
static sigset_t only_second, none;

static uint64_t product = 3;

/* No system calls, about a millisecond for each step. */
static void compute(int steps) {
    for (int i = 0; i < steps * 1000000; i++) {
        product = product * 6364136223846793005u + 1;
    }
}

/* The second signal came before the first: the machine was too slow, and the guest tries again. */
static volatile int early;

static void on_second(int signal, siginfo_t *info, void *context) {
    (void)context;
    CHECK(signal == SIGRTMIN + 1 && info->si_code == SI_TIMER && info->si_value.sival_int == 4711);
    early |= first == 0;
    second++;
}

static void on_first(int signal, siginfo_t *info, void *context) {
    (void)context;
    CHECK(signal == SIGALRM && info->si_code == SI_KERNEL);
    first++;
    if (early) {
        return;
    }
    compute(12);
    CHECK(second == 0);
    siginfo_t got;
    struct signalfd_siginfo read_info;
    struct pollfd poller = {signals_fd, POLLIN, 0};
    sigset_t pending;
    switch (mode) {
    case 0:
        CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGRTMIN + 1) == 1);
        CHECK(sigismember(&pending, SIGUSR1) == 0);
        return; /* delivered when the handler returns */
    case 1:
        CHECK(sigwaitinfo(&only_second, &got) == SIGRTMIN + 1);
        CHECK(got.si_code == SI_TIMER && got.si_value.sival_int == 4711 && got.si_overrun == 0);
        break;
    case 2:
        CHECK(read(signals_fd, &read_info, sizeof read_info) == sizeof read_info);
        CHECK(read_info.ssi_signo == (uint32_t)SIGRTMIN + 1 && read_info.ssi_code == SI_TIMER);
        CHECK(read_info.ssi_int == 4711);
        break;
    case 3:
        CHECK(sigsuspend(&none) == -1 && errno == EINTR && second == 1);
        return;
    case 4:
        CHECK(poll(&poller, 1, -1) == 1);
        return;
    case 5:
        CHECK(ppoll(NULL, 0, NULL, &none) == -1 && errno == EINTR && second == 1);
        return;
    }
    second = 1;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&none);
    sigemptyset(&only_second);
    sigaddset(&only_second, SIGRTMIN + 1);
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = on_second;
    CHECK(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
    action.sa_mask = only_second;
    action.sa_sigaction = on_first;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    signals_fd = signalfd(-1, &only_second, 0);
    CHECK(signals_fd >= 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    event.sigev_value.sival_int = 4711;
    timer_t timer;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    for (mode = 0; mode < 6; mode++) {
        first = second = early = 0;
        struct itimerspec later = {{0, 0}, {0, 3000000}};
        struct itimerval sooner = {{0, 0}, {0, 1000}};
        CHECK(timer_settime(timer, 0, &later, NULL) == 0 && setitimer(ITIMER_REAL, &sooner, NULL) == 0);
        compute(20);
        (void)getppid();
        if (early) {
            mode--;
            continue;
        }
        if (first != 1 || second != 1) {
            dprintf(2, "mode %d: %d %d\n", mode, first, second);
            return 98;
        }
    }
    printf("%d %llx\n", getpid(), (unsigned long long)product);
    return 0;
}

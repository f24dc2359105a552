/* Timers of all kinds that expire all the time, while the program computes and makes calls. */
#include "guest.h"
#include <sys/time.h>

static volatile sig_atomic_t alarms, profs, virtuals, queued, overruns;

static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (signal == SIGALRM) {
        alarms++;
    } else if (signal == SIGPROF) {
        profs++;
    } else if (signal == SIGVTALRM) {
        virtuals++;
    } else {
        CHECK(info->si_code == SI_TIMER && info->si_value.sival_int == signal);
        queued++;
        overruns += info->si_overrun;
    }
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    int signals[] = {SIGALRM, SIGPROF, SIGVTALRM, SIGRTMIN + 3, SIGRTMIN + 4};
    for (int i = 0; i < 5; i++) {
        CHECK(sigaction(signals[i], &action, NULL) == 0);
    }
    timer_t timers[2];
    for (int i = 0; i < 2; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signals[3 + i]};
        event.sigev_value.sival_int = signals[3 + i];
        CHECK(timer_create(i ? CLOCK_REALTIME : CLOCK_MONOTONIC, &event, &timers[i]) == 0);
        struct itimerspec every = {{0, 3000000 + i * 700000}, {0, 1000000}};
        CHECK(timer_settime(timers[i], 0, &every, NULL) == 0);
    }
    struct itimerval every = {{0, 5000}, {0, 1000}};
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0 && setitimer(ITIMER_PROF, &every, NULL) == 0);
    CHECK(setitimer(ITIMER_VIRTUAL, &every, NULL) == 0);
    uint64_t product = 3;
    /* The calls of a checkpoint take longer than a timer's period, so it is enough that each timer has
     * expired. */
    for (int i = 0; i < 10 || alarms < 2 || profs < 1 || virtuals < 1 || queued < 4; i++) {
        for (int k = 0; k < 3000000; k++) {
            product = product * 6364136223846793005u + 1;
        }
        CHECK(getppid() > 0);
    }
    memset(&every, 0, sizeof every);
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0 && setitimer(ITIMER_PROF, &every, NULL) == 0);
    CHECK(setitimer(ITIMER_VIRTUAL, &every, NULL) == 0);
    CHECK(timer_delete(timers[0]) == 0 && timer_delete(timers[1]) == 0);
    printf("%d %d %d %d, %d overruns, %llx\n", (int)alarms, (int)profs, (int)virtuals, (int)queued, (int)overruns,
           (unsigned long long)product);
    return 0;
}

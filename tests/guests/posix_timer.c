/* A POSIX timer that signals with a value, waited for with sigtimedwait. */
#include "guest.h"

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    timer_t timer;
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGRTMIN;
    event.sigev_value.sival_int = 4711;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec setting = {{0, 0}, {0, 5000000}}, left;
    for (int i = 0; i < 5; i++) {
        CHECK(timer_settime(timer, 0, &setting, NULL) == 0);
        CHECK(timer_gettime(timer, &left) == 0);
        printf("%ld ns left\n", left.it_value.tv_nsec);
        siginfo_t info;
        struct timespec limit = {10, 0};
        CHECK(sigtimedwait(&set, &info, &limit) == SIGRTMIN);
        CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 4711);
        printf("overrun %d\n", timer_getoverrun(timer));
    }
    CHECK(timer_delete(timer) == 0);
    return 0;
}

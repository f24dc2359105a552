/* A timer that expires faster than rr finds a place in a loop without system calls: its signals are
 * pending, and at most one at a time. */
#include "guest.h"
#include <signal.h>
#include <sys/time.h>

static volatile int alarms;
static volatile unsigned long turns;

static void on_alarm(int signal) {
    (void)signal;
    alarms++;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval every = {{0, 3000}, {0, 3000}}, never = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    while (alarms < 3) turns++;
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    puts(alarms >= 3 ? "done" : "too few");
    return 0;
}

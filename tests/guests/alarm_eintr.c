/* A timer signal interrupts a blocking read: EINTR without SA_RESTART. */
#include "guest.h"
#include <sys/time.h>

static volatile sig_atomic_t count;

static void on_alarm(int signal) {
    (void)signal;
    count++;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    int ends[2];
    CHECK(pipe(ends) == 0);
    for (int i = 0; i < 5; i++) {
        /* Again and again: on a busy machine the first comes before the read. */
        struct itimerval timer = {{0, 10000}, {0, 15000}}, none = {{0, 0}, {0, 0}};
        int before = count;
        CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        char byte;
        errno = 0;
        CHECK(read(ends[0], &byte, 1) == -1 && errno == EINTR);
        CHECK(setitimer(ITIMER_REAL, &none, NULL) == 0);
        CHECK(count > before);
        printf("interrupted at %ld\n", (long)time(NULL));
    }
    alarm(1);
    CHECK(alarm(0) == 1);
    CHECK(count >= 5);
    return 0;
}

/* A stop that is taken back before it took effect must not stop the process later. */
#include "guest.h"
#include <sys/time.h>

static volatile sig_atomic_t stage;

static void on_alarm(int signal) {
    (void)signal;
    stage++;
}

int main(void) {
    int ready[2];
    CHECK(pipe(ready) == 0);
    for (int round = 0; round < 5; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            stage = 0;
            signal(SIGALRM, on_alarm);
            struct itimerval timer = {{0, 500}, {0, 500}};
            CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
            write_all(ready[1], "x", 1);
            for (volatile int i = 0; i < 4000000; i++) {
            }
            timer.it_interval.tv_usec = timer.it_value.tv_usec = 0;
            CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
            _exit(stage > 0 ? 5 : 6);
        }
        char byte;
        read_all(ready[0], &byte, 1);
        CHECK(kill(child, SIGSTOP) == 0 && kill(child, SIGCONT) == 0);
        expect_exit(child, 5);
    }
    return 0;
}

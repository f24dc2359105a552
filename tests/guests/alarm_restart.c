/* A timer signal interrupts a blocking read with SA_RESTART: the read goes on, and a child's byte ends
 * it. */
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
    action.sa_flags = SA_RESTART;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sleep_ms(80);
        write_all(ends[1], "c", 1);
        _exit(0);
    }
    struct itimerval timer = {{0, 10000}, {0, 10000}}, stop = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    char byte = 0;
    CHECK(read(ends[0], &byte, 1) == 1 && byte == 'c');
    CHECK(setitimer(ITIMER_REAL, &stop, &timer) == 0);
    CHECK(count >= 1);
    expect_exit(child, 0);
    printf("%d alarms, %ld us were left\n", (int)count, (long)timer.it_value.tv_usec);
    return 0;
}

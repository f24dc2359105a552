/* Programs asked for the time by the vsyscall page long ago. */
#include "guest.h"
#include <sys/time.h>

static int (*const time_of_day)(struct timeval *, struct timezone *) = (void *)0xffffffffff600000;
static time_t (*const time_of_old)(time_t *) = (void *)0xffffffffff600400;
static long (*const cpu_of_old)(unsigned *, unsigned *, void *) = (void *)0xffffffffff600800;

static volatile int handled;

static void on_alarm(int signal) {
    (void)signal;
    handled++;
}

static void ask(void) {
    time_t there = 0, now = time_of_old(&there);
    CHECK(now > 1000000000 && there == now);
    struct timeval day = {0};
    struct timezone zone = {-1, -1};
    CHECK(time_of_day(&day, &zone) == 0);
    CHECK(day.tv_sec >= now && day.tv_usec < 1000000 && zone.tz_dsttime != -1);
    unsigned cpu = 99999, node = 99999;
    CHECK(cpu_of_old(&cpu, &node, (void *)1) == 0);
    CHECK(cpu < 4096 && node < 4096);
    printf("%ld %ld.%06ld on %u, %u\n", (long)now, (long)day.tv_sec, (long)day.tv_usec, cpu, node);
}

int main(void) {
    /* Nobody sees the signal that stops the program there. */
    sigset_t all;
    sigfillset(&all);
    for (int i = 0; i < 3; i++) {
        if (i == 1) {
            sigprocmask(SIG_SETMASK, &all, NULL);
        }
        ask();
        sigset_t now;
        sigprocmask(SIG_SETMASK, NULL, &now);
        CHECK(sigismember(&now, SIGSYS) == (i > 0));
    }
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGALRM, on_alarm);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    time_t last = 0;
    for (int i = 0; i < 200 || !handled; i++) {
        time_t now = time_of_old(NULL);
        CHECK(now >= last);
        last = now;
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        ask();
        fflush(stdout);
        _exit(3);
    }
    expect_exit(child, 3);
    puts("done");
    return 0;
}

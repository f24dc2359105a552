/* Sleeps: whole, interrupted (with the rest given back), stopped and continued, and until a point in time. */
#include "guest.h"
#include <sys/time.h>

static volatile sig_atomic_t count;

static void on_alarm(int signal) {
    (void)signal;
    count++;
}

static uint64_t now_ns(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int main(void) {
    uint64_t start = now_ns();
    sleep_ms(10);
    CHECK(now_ns() - start >= 10000000u);

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    action.sa_flags = SA_RESTART; /* sleeps are not restarted all the same */
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    /* Again and again: on a busy machine the first comes before the sleep. */
    struct itimerval timer = {{0, 50000}, {0, 10000}}, none = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    struct timespec wait = {5, 0}, rest = {0, 0};
    CHECK(nanosleep(&wait, &rest) == -1 && errno == EINTR && count > 0);
    CHECK(setitimer(ITIMER_REAL, &none, NULL) == 0);
    CHECK(rest.tv_sec == 4 && rest.tv_nsec > 0);
    printf("rest %ld.%09ld\n", (long)rest.tv_sec, rest.tv_nsec);
    fflush(stdout);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) { /* a stop and a continue do not end a sleep: it goes on by restart_syscall */
        uint64_t before = now_ns();
        wait.tv_sec = 0;
        wait.tv_nsec = 250000000;
        CHECK(nanosleep(&wait, NULL) == 0);
        CHECK(now_ns() - before >= 250000000u);
        _exit(3);
    }
    sleep_ms(10);
    CHECK(kill(child, SIGSTOP) == 0);
    int status;
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    CHECK(kill(child, SIGCONT) == 0);
    expect_exit(child, 3);

    struct timespec until;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_nsec += 5000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0);
    return 0;
}

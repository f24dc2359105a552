/* The calls for waiting and timers that the library makes itself, each several times at one site:
 * descriptors that are ready or not, invalid times, remaining time; signal actions; and signals that
 * arrive meanwhile. */
#include "guest.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static volatile sig_atomic_t alarms, users;
static void on_alarm(int signal) { (void)signal; alarms++; }
static void on_user(int signal) { (void)signal; users++; }

/* One site for all calls. */
static __attribute__((noinline)) long raw(long n, long a, long b, long c, long d, long e, long f) {
    return syscall(n, a, b, c, d, e, f);
}
#define CALL(n, a, b, c, d, e, f) raw(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* Repeats a call that does not wait. Even such a call is interrupted if a signal is pending when the
 * kernel checks, and the process may have lost the processor just before. */
#define AT_ONCE(call)                                                                                         \
    ({                                                                                                        \
        long result;                                                                                          \
        do {                                                                                                  \
            result = (call);                                                                                  \
        } while (result == -1 && errno == EINTR);                                                             \
        result;                                                                                               \
    })

static void selects(int ready, int idle) {
    fd_set in, out;
    int most = (ready > idle ? ready : idle) + 1;
    for (int form = 0; form < 2; form++) {
        long number = form ? SYS_pselect6 : SYS_select;
        long second = form ? 1000000000 : 1000000;
        /* A descriptor is ready: the set is reduced to it, and the remaining time is at most the
         * original time. */
        FD_ZERO(&in);
        FD_SET(ready, &in);
        FD_SET(idle, &in);
        FD_ZERO(&out);
        long left[2] = {7, second / 2};
        CHECK(CALL(number, most, &in, &out, 0, left, 0) == 1);
        CHECK(FD_ISSET(ready, &in) && !FD_ISSET(idle, &in));
        CHECK(left[0] * second + left[1] <= 7 * second + second / 2 && left[0] >= 6);
        /* With a time of 0, nothing is ready. */
        FD_ZERO(&in);
        FD_SET(idle, &in);
        left[0] = left[1] = 0;
        CHECK(AT_ONCE(CALL(number, most, &in, 0, 0, left, 0)) == 0 && !FD_ISSET(idle, &in));
        /* With a short time the call waits, and no time remains; a signal may interrupt the call. */
        FD_SET(idle, &in);
        left[1] = second / 500;
        long got = CALL(number, most, &in, 0, 0, left, 0);
        CHECK(got == 0 ? left[0] == 0 && left[1] == 0 : got == -1 && errno == EINTR);
        /* An invalid time. */
        left[0] = -1;
        CHECK(CALL(number, most, 0, 0, 0, left, 0) == -1 && errno == EINVAL);
        /* A descriptor that is not open, and a bad address. */
        FD_ZERO(&in);
        FD_SET(40, &in);
        CHECK(CALL(number, 41, &in, 0, 0, 0, 0) == -1 && errno == EBADF);
        CHECK(CALL(number, most, 8, 0, 0, 0, 0) == -1 && errno == EFAULT);
        CHECK(CALL(number, -1, 0, 0, 0, 0, 0) == -1 && errno == EINVAL);
    }
    /* With a mask that blocks all signals. */
    FD_ZERO(&in);
    FD_SET(ready, &in);
    uint64_t mask = ~0ull;
    struct { void *at; size_t size; } masked = {&mask, 8};
    CHECK(CALL(SYS_pselect6, most, &in, 0, 0, 0, &masked) == 1);
}

static void polls(int ready, int idle) {
    struct pollfd both[2] = {{ready, POLLIN, 99}, {idle, POLLIN, 99}};
    struct timespec left = {3, 0};
    CHECK(CALL(SYS_ppoll, both, 2, &left, 0, 8, 0) == 1 && both[0].revents == POLLIN && both[1].revents == 0);
    CHECK(left.tv_sec >= 2);
    left = (struct timespec){0, 0};
    CHECK(AT_ONCE(CALL(SYS_ppoll, both + 1, 1, &left, 0, 8, 0)) == 0);
    left.tv_nsec = 2000000;
    long got = CALL(SYS_ppoll, both + 1, 1, &left, 0, 8, 0);
    CHECK(got == 0 || (got == -1 && errno == EINTR));
    left.tv_nsec = 2000000000;
    CHECK(CALL(SYS_ppoll, both, 1, &left, 0, 8, 0) == -1 && errno == EINVAL);
    CHECK(CALL(SYS_ppoll, 8, 1, &left, 0, 8, 0) == -1);
    CHECK(CALL(SYS_ppoll, both, 1, 0, 0, 8, 0) == 1);
}

static void timers(void) {
    int timer = (int)CALL(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 0, 0, 0);
    struct itimerspec set = {{0, 0}, {100, 5}}, old = {{1, 1}, {1, 1}};
    CHECK(timer >= 0 && CALL(SYS_timerfd_settime, timer, 0, &set, &old, 0, 0) == 0 && old.it_value.tv_sec == 0);
    CHECK(CALL(SYS_timerfd_gettime, timer, &old, 0, 0, 0, 0) == 0 && old.it_value.tv_sec >= 90);
    printf("%ld\n", old.it_value.tv_nsec);
    uint64_t count;
    CHECK(CALL(SYS_read, timer, &count, 8, 0, 0, 0) == -1 && errno == EAGAIN);
    CHECK(CALL(SYS_timerfd_settime, timer, 0, &old, 0, 0, 0) == 0);
    CHECK(CALL(SYS_timerfd_settime, -1, 0, &old, 0, 0, 0) == -1 && errno == EBADF);
    set = (struct itimerspec){{0, 0}, {0, 1}};
    CHECK(CALL(SYS_timerfd_settime, timer, 0, &set, &old, 0, 0) == 0 && old.it_value.tv_sec >= 90);
    while (CALL(SYS_read, timer, &count, 8, 0, 0, 0) != 8) {
        CHECK(errno == EAGAIN);
    }
    CHECK(count == 1);
    int event = (int)CALL(SYS_eventfd2, 3, EFD_NONBLOCK, 0, 0, 0, 0);
    /* A count that cannot be stored is not lost. */
    CHECK(CALL(SYS_read, event, 8, 8, 0, 0, 0) == -1 && errno == EFAULT);
    close(timer);
    close(event);
    struct itimerval now;
    CHECK(CALL(SYS_getitimer, ITIMER_VIRTUAL, &now, 0, 0, 0, 0) == 0 && now.it_value.tv_sec == 0);
    now = (struct itimerval){{0, 0}, {50, 0}};
    struct itimerval before;
    CHECK(CALL(SYS_setitimer, ITIMER_PROF, &now, &before, 0, 0, 0) == 0);
    CHECK(CALL(SYS_alarm, 0, 0, 0, 0, 0, 0) >= 0);
}

/* The action of a signal is decided when the signal comes. */
static void actions(int round) {
    struct { void (*handler)(int); unsigned long flags; void *restorer; uint64_t mask; } old, now;
    memset(&old, 0xee, sizeof old);
    CHECK(CALL(SYS_rt_sigaction, SIGUSR1, 0, &old, 8, 0, 0) == 0);
    CHECK(old.handler == on_user);
    now = old;
    now.handler = SIG_IGN;
    CHECK(CALL(SYS_rt_sigaction, SIGUSR1, &now, 0, 8, 0, 0) == 0);
    CHECK(raise(SIGUSR1) == 0 && users == round);
    CHECK(CALL(SYS_rt_sigaction, SIGUSR1, &old, &now, 8, 0, 0) == 0 && now.handler == SIG_IGN);
    CHECK(raise(SIGUSR1) == 0 && users == round + 1);
    CHECK(CALL(SYS_rt_sigaction, SIGKILL, &old, 0, 8, 0, 0) == -1 && errno == EINVAL);
    CHECK(CALL(SYS_rt_sigaction, SIGUSR1, 8, 0, 8, 0, 0) == -1 && errno == EFAULT);
    CHECK(CALL(SYS_rt_sigaction, SIGUSR1, 0, 8, 8, 0, 0) == -1 && errno == EFAULT);
    /* A pending signal is removed when it becomes ignored. */
    uint64_t set = 1ull << (SIGUSR1 - 1);
    CHECK(CALL(SYS_rt_sigprocmask, SIG_BLOCK, &set, 0, 8, 0, 0) == 0);
    CHECK(raise(SIGUSR1) == 0);
    now.handler = SIG_IGN;
    CHECK(CALL(SYS_rt_sigaction, SIGUSR1, &now, 0, 8, 0, 0) == 0);
    CHECK(CALL(SYS_rt_sigaction, SIGUSR1, &old, 0, 8, 0, 0) == 0);
    CHECK(CALL(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, 0, 8, 0, 0) == 0);
    CHECK(users == round + 1);
}

int main(void) {
    signal(SIGALRM, on_alarm);
    signal(SIGUSR1, on_user);
    int ready[2], idle[2];
    CHECK(pipe(ready) == 0 && pipe(idle) == 0 && write(ready[1], "x", 1) == 1);
    for (int round = 0; round < 5; round++) {
        struct itimerval every = {{0, 10000}, {0, 10000}};
        CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
        selects(ready[0], idle[0]);
        polls(ready[0], idle[0]);
        actions(round);
        timers();
        unsigned ids[3];
        CHECK(CALL(SYS_getresuid, ids, ids + 1, ids + 2, 0, 0, 0) == 0 && ids[1] == geteuid());
        CHECK(CALL(SYS_getresgid, ids, ids + 1, ids + 2, 0, 0, 0) == 0 && ids[1] == getegid());
    }
    printf("%d alarms\n", (int)alarms);
    return 0;
}

// guest: heavy
/* The recorder steps a program that computes for long, and traps its 32-bit system calls: the program's
 * own use of SIGTRAP and SIGSYS is not affected. */
#include "guest.h"
#include <sys/time.h>

static volatile sig_atomic_t alarms;

static void on_alarm(int signal) {
    (void)signal;
    alarms++;
}

static void on_trap(int signal) {
    (void)signal;
    _exit(98);
}

static void long_call(void) {
    long result = 20;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
}

/* Computes until the timer has expired this number of times. */
static void compute(int times) {
    int end = alarms + times;
    uint64_t state = 1;
    while (alarms < end) {
        next_random(&state);
    }
}

static void expect(int signal, void (*handler)(int), int blocked) {
    struct sigaction now;
    sigset_t set;
    CHECK(sigaction(signal, NULL, &now) == 0 && now.sa_handler == handler);
    CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0 && sigismember(&set, signal) == blocked);
}

int main(void) {
    signal(SIGALRM, on_alarm);
    struct itimerval often = {{0, 20000}, {0, 20000}};
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);

    signal(SIGTRAP, SIG_IGN);
    signal(SIGSYS, SIG_IGN);
    compute(2);
    long_call();
    expect(SIGTRAP, SIG_IGN, 0);
    expect(SIGSYS, SIG_IGN, 0);

    signal(SIGTRAP, on_trap);
    signal(SIGSYS, on_trap);
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    sigaddset(&set, SIGSYS);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    compute(2);
    long_call();
    expect(SIGTRAP, on_trap, 1);
    expect(SIGSYS, on_trap, 1);

    CHECK(raise(SIGTRAP) == 0);
    compute(2);
    expect(SIGTRAP, on_trap, 1);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGTRAP) && !sigismember(&pending, SIGSYS));
    siginfo_t info;
    sigdelset(&set, SIGSYS);
    CHECK(sigwaitinfo(&set, &info) == SIGTRAP && info.si_pid == getpid());
    printf("%d\n", getpid());
    return 0;
}

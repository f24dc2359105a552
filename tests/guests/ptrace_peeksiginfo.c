/* PTRACE_PEEKSIGINFO: a tracer looks at the signals that are queued for its tracee, for the thread and for the
 * process, some at a time. They stay queued. */
#include "tracing.h"
#include <sys/ptrace.h>

#ifndef PTRACE_PEEKSIGINFO
#define PTRACE_PEEKSIGINFO 0x4209
#endif

static siginfo_t infos[16];

static long peek(pid_t child, unsigned long long off, unsigned flags, int nr) {
    struct {
        unsigned long long off;
        unsigned flags;
        int nr;
    } args = {off, flags, nr};
    return ptrace(PTRACE_PEEKSIGINFO, child, &args, infos);
}

int main(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sigset_t set;
        CHECK(sigfillset(&set) == 0);
        CHECK(sigdelset(&set, SIGSTOP) == 0);
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        for (int i = 0; i < 3; i++) {
            CHECK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 100 + i}) == 0);
        }
        CHECK(kill(getpid(), SIGUSR1) == 0);
        CHECK(raise(SIGUSR2) == 0);
        CHECK(kill(getpid(), SIGSTOP) == 0);
        siginfo_t info;
        CHECK(sigtimedwait(&set, &info, &(struct timespec){0}) == SIGUSR1 || info.si_signo == SIGUSR2);
        _exit(8);
    }
    CHECK(wait_for_stop(child) == SIGSTOP);
    for (unsigned shared = 0; shared < 2; shared++) {
        long n = peek(child, 0, shared, 16);
        printf("%s: %ld\n", shared ? "process" : "thread", n);
        for (long i = 0; i < n; i++) {
            printf("  %d code %d value %d\n", infos[i].si_signo, infos[i].si_code,
                   infos[i].si_code == SI_QUEUE ? infos[i].si_value.sival_int : 0);
        }
        CHECK(n == (shared ? 4 : 1));
    }
    CHECK(peek(child, 1, 1, 2) == 2 && infos[0].si_value.sival_int == 101);
    CHECK(peek(child, 4, 1, 2) == 0);
    CHECK(peek(child, 0, 1, 0) == 0);
    CHECK(peek(child, ~0ull, 1, 1) == 0);
    CHECK(peek(child, 0, 2, 1) == -1 && errno == EINVAL);
    CHECK(peek(child, 0, 0, -1) == -1 && errno == EINVAL);
    CHECK(ptrace(PTRACE_PEEKSIGINFO, child, NULL, infos) == -1 && errno == EFAULT);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    expect_exit(child, 8);
    return 0;
}

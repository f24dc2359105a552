/* Debug registers: a tracer watches a word that its tracee writes in a computing loop, and stops the
 * tracee at an instruction. */
#include "tracing.h"
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

static volatile uint64_t watched, other;

static __attribute__((noinline)) uint64_t compute(uint64_t state) {
    for (int i = 0; i < 20000; i++) {
        other = next_random(&state);
        if (i % 5000 == 4999) {
            watched = state;
        }
    }
    return state;
}

static void set_debug(pid_t pid, int n, unsigned long value) {
    CHECK(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg) + 8 * (size_t)n, value) == 0);
}

int main(void) {
    uint64_t seed = fresh_seed();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        CHECK(raise(SIGSTOP) == 0);
        uint64_t state = compute(seed);
        state = compute(state);
        _exit((int)(state & 0x3f));
    }
    CHECK(wait_for_stop(child) == SIGSTOP);
    set_debug(child, 0, (unsigned long)&watched);
    set_debug(child, 7, 1 | 0xdul << 16); /* writes of eight bytes */
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++) {
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == SIGTRAP);
        siginfo_t info;
        CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &info) == 0 && info.si_code == 4); /* TRAP_HWBKPT */
        errno = 0;
        long hits = ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg) + 48, 0);
        CHECK(errno == 0 && (hits & 0xf) == 1);
        set_debug(child, 6, 0);
        uint64_t now = (uint64_t)ptrace(PTRACE_PEEKDATA, child, &watched, 0);
        CHECK(now == (uint64_t)ptrace(PTRACE_PEEKDATA, child, &watched, 0));
        sum = sum * 31 + now;
        printf("%#lx\n", now);
    }
    /* An instruction: the stop comes before it. */
    set_debug(child, 7, 0);
    set_debug(child, 0, (unsigned long)compute);
    set_debug(child, 7, 1);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(wait_for_stop(child) == SIGTRAP);
    struct user_regs_struct regs;
    CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
    CHECK(regs.rip == (unsigned long)compute);
    set_debug(child, 7, 0);
    CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    printf("%#lx %d\n", sum, WEXITSTATUS(status));
    return 0;
}

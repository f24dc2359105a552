/* PTRACE_SYSEMU_SINGLESTEP: a tracer steps a child through code with a system call. At the call the child stops
 * at the entry, and the call is not made. */
#include "tracing.h"
#include <sys/ptrace.h>
#include <sys/user.h>

#ifndef PTRACE_SYSEMU_SINGLESTEP
#define PTRACE_SYSEMU_SINGLESTEP 32
#endif

#define TURNS 3

extern const char emulated_call[];

static __attribute__((noinline)) long emulated_code(void) {
    long result;
    __asm__ volatile("nop\n\t"
                     "mov $110, %%eax\n\t" /* getppid */
                     "emulated_call: syscall\n\t"
                     "inc %%rax\n\t"
                     "nop\n\t"
                     "nop\n\t"
                     : "=a"(result)
                     :
                     : "rcx", "r11", "memory", "cc");
    return result;
}

static struct user_regs_struct after(int request, pid_t child) {
    struct user_regs_struct regs;
    CHECK(ptrace(request, child, 0, 0) == 0);
    CHECK(wait_for_stop(child) == SIGTRAP);
    CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
    return regs;
}

/* Lets the child run to the entry of the call, which is not made, and gives it a result. */
static void stop_at_call(pid_t child, long result) {
    struct user_regs_struct regs;
    int steps = 0;
    do {
        regs = after(PTRACE_SYSEMU_SINGLESTEP, child);
        steps++;
    } while (regs.rip != (unsigned long)emulated_call + 2);
    printf("%d steps, call %lld\n", steps, regs.orig_rax);
    CHECK(regs.orig_rax == SYS_getppid);
    regs.rax = result;
    CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
}

int main(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        for (int turn = 0; turn < TURNS; turn++) {
            __asm__ volatile("int3");
            CHECK(emulated_code() == 1001 + turn);
        }
        _exit(7);
    }
    CHECK(wait_for_stop(child) == SIGTRAP);
    for (int turn = 0; turn < TURNS; turn++) {
        stop_at_call(child, 1000 + turn);
        struct user_regs_struct regs;
        switch (turn) {
        case 0: /* the next step is that of the instruction after the call */
            regs = after(PTRACE_SYSEMU_SINGLESTEP, child);
            CHECK(regs.rip == (unsigned long)emulated_call + 5 && regs.rax == 1001);
            break;
        case 1: /* the next step is the end of the call */
            regs = after(PTRACE_SINGLESTEP, child);
            CHECK(regs.rip == (unsigned long)emulated_call + 2 && regs.rax == 1001);
            break;
        default: /* the child goes on to its next breakpoint */
            break;
        }
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        if (turn + 1 < TURNS) {
            CHECK(wait_for_stop(child) == SIGTRAP);
        }
    }
    expect_exit(child, 7);
    return 0;
}

/* PTRACE_SINGLESTEP, breakpoints and PTRACE_SYSEMU: a tracer steps a child through code that contains a
 * system call, a string instruction, a read of the time-stamp counter, and pushed flags. */
#include "tracing.h"
#include <sys/ptrace.h>
#include <sys/user.h>

extern const char code_start[], code_end[];

/* Returns the call's rax, the pushed flags, and the counter. */
static __attribute__((noinline)) long stepped_code(long *flags) {
    long result;
    char from[4] = "abc", to[4];
    char *source = from, *target = to;
    __asm__ volatile("code_start: nop\n\t"
                     "mov $110, %%eax\n\t" /* getppid */
                     "syscall\n\t"
                     "mov %%rax, %%rbx\n\t"
                     "mov $3, %%ecx\n\t"
                     "rep movsb\n\t"
                     "rdtsc\n\t"
                     "mov %%rbx, %%rax\n\t"
                     "lea -128(%%rsp), %%rsp\n\t" /* below the red zone */
                     "pushf\n\t"
                     "pop %%rbx\n\t"
                     "lea 128(%%rsp), %%rsp\n\t"
                     "code_end: nop\n\t"
                     : "=a"(result), "=&b"(*flags), "+S"(source), "+D"(target)
                     :
                     : "rcx", "rdx", "r11", "memory", "cc");
    return result;
}

static volatile int handled;

static void on_usr1(int signal) {
    handled = signal;
}

int main(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(signal(SIGUSR1, on_usr1) != SIG_ERR);
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        for (int i = 0; i < 3; i++) {
            long flags;
            CHECK(stepped_code(&flags) == getppid());
        }
        CHECK(raise(SIGSTOP) == 0);
        for (int i = 0; i < 2; i++) {
            long flags;
            CHECK(stepped_code(&flags) == getppid());
        }
        CHECK(handled == SIGUSR1);
        CHECK(syscall(SYS_getpgid, 77) == 4321);
        _exit(6);
    }
    CHECK(wait_for_stop(child) == SIGSTOP);
    /* A breakpoint like those of debuggers. */
    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, child, code_start, 0);
    CHECK(errno == 0 && (word & 0xff) == 0x90);
    CHECK(ptrace(PTRACE_POKETEXT, child, code_start, (word & ~0xffl) | 0xcc) == 0);
    struct user_regs_struct regs;
    for (int pass = 0; pass < 2; pass++) {
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == SIGTRAP);
        CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
        CHECK(regs.rip == (unsigned long)code_start + 1);
        siginfo_t info;
        CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &info) == 0 && info.si_code == SI_KERNEL);
        /* Steps over the breakpoint, and to the end. */
        regs.rip--;
        CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
        CHECK(ptrace(PTRACE_POKETEXT, child, code_start, word) == 0);
        int steps = 0;
        while (regs.rip != (unsigned long)code_end) {
            if (pass == 1 && steps == 3) { /* a signal comes between two steps: its handler is stepped into */
                CHECK(kill(child, SIGUSR1) == 0);
                CHECK(ptrace(PTRACE_SINGLESTEP, child, 0, 0) == 0);
                CHECK(wait_for_stop(child) == SIGUSR1);
                CHECK(ptrace(PTRACE_SINGLESTEP, child, 0, SIGUSR1) == 0);
                CHECK(wait_for_stop(child) == SIGTRAP);
                CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
                CHECK(regs.rip == (unsigned long)on_usr1);
                while (regs.rip < (unsigned long)code_start || regs.rip > (unsigned long)code_end) {
                    CHECK(ptrace(PTRACE_SINGLESTEP, child, 0, 0) == 0);
                    CHECK(wait_for_stop(child) == SIGTRAP);
                    CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
                }
            }
            CHECK(ptrace(PTRACE_SINGLESTEP, child, 0, 0) == 0);
            CHECK(wait_for_stop(child) == SIGTRAP);
            CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
            CHECK((regs.eflags & 0x100) == 0);
            steps++;
        }
        printf("%d steps\n", steps);
        CHECK(ptrace(PTRACE_POKETEXT, child, code_start, (word & ~0xffl) | 0xcc) == 0);
    }
    CHECK(ptrace(PTRACE_POKETEXT, child, code_start, word) == 0);
    /* Calls that are not made: the tracer sets their results. */
    for (;;) {
        CHECK(ptrace(PTRACE_SYSEMU, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == SIGTRAP);
        CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
        if (regs.orig_rax == SYS_getpgid) {
            break;
        }
        CHECK(regs.orig_rax == SYS_getppid);
        regs.rax = (unsigned long)getpid();
        CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
    }
    regs.rax = 4321;
    CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    expect_exit(child, 6);
    return 0;
}

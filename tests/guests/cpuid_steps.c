/* A program that steps itself (the trap flag) over cpuid and rdtsc: one trap after each instruction, as natively. */
#include "guest.h"
#include <ucontext.h>

enum { MOST = 64 };
static uint64_t seen[MOST];
static volatile int traps;

static void handler(int signo, siginfo_t *info, void *context) {
    (void)signo;
    ucontext_t *at = context;
    CHECK(info->si_code == TRAP_TRACE);
    CHECK((uint64_t)(uintptr_t)info->si_addr == (uint64_t)at->uc_mcontext.gregs[REG_RIP]);
    if (traps < MOST) {
        seen[traps] = (uint64_t)at->uc_mcontext.gregs[REG_RIP];
    }
    traps++;
}

extern const char step_begin[];

__attribute__((noinline)) static void step(void) {
    __asm__ volatile("xor %%eax, %%eax; xor %%ecx, %%ecx\n\t"
                     "pushfq; orq $0x100, (%%rsp); popfq\n\t"
                     ".globl step_begin, step_end\n"
                     "step_begin: nop\n\t"
                     "cpuid\n\t"
                     "nop\n\t"
                     "rdtsc\n\t"
                     "rdtsc\n\t"
                     "cpuid\n\t"
                     "nop\n\t"
                     "pushfq; andq $-0x101, (%%rsp); popfq\n"
                     "step_end: nop\n\t"
                     ::: "rax", "rbx", "rcx", "rdx", "cc", "memory");
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
    for (int round = 0; round < 3; round++) {
        traps = 0;
        step();
        /* nop, cpuid, nop, rdtsc, rdtsc, cpuid, nop, pushfq, andq, and popfq, which still had the flag */
        for (int i = 0; i < traps && i < MOST; i++) {
            printf("+%u ", (unsigned)(seen[i] - (uint64_t)(uintptr_t)step_begin));
        }
        printf("\n");
    }
    return 0;
}

/* A program that single-steps itself, checks alignment and copies downwards, across system calls: these
 * flags must affect only the program, and rr must not change them. */
#include "guest.h"
#include <ucontext.h>

static volatile sig_atomic_t steps, code;

static void on_trap(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    code = info->si_code;
    steps++;
}

#define SET(flag) "pushfq\n orq $" #flag ",(%%rsp)\n popfq\n"
#define CLEAR(flag) "pushfq\n andq $~" #flag ",(%%rsp)\n popfq\n"
#define CALL "mov $110,%%eax\n syscall\n" /* getppid */

int main(void) {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
    for (int round = 0; round < 3; round++) {
        steps = 0;
        __asm__ volatile(SET(0x100) "nop\n nop\n nop\n nop\n" CLEAR(0x100)::: "memory", "cc");
        int plain = steps;
        __asm__ volatile(SET(0x100) CALL "nop\n" CALL CALL CLEAR(0x100)::: "memory", "cc", "rax", "rcx", "r11");
        printf("stepped %d %d code %d\n", plain, steps - plain, code);
        unsigned long flags, result;
        __asm__ volatile(SET(0x40400) CALL CALL "mov %%rax,%1\n pushfq\n popq %0\n" CLEAR(0x40400)
                         : "=r"(flags), "=r"(result)::"memory", "cc", "rax", "rcx", "r11");
        CHECK((flags & 0x40500) == 0x40400 && (pid_t)result == getppid());
        /* A call that blocks, with the flag set. */
        struct timespec wait = {0, 2000000};
        long slept;
        steps = 0;
        __asm__ volatile(SET(0x100) "mov $35,%%eax\n syscall\n" CLEAR(0x100)
                         : "=a"(slept) : "D"(&wait), "S"(NULL) : "memory", "cc", "rcx", "r11");
        CHECK(slept == 0);
        printf("and %d\n", steps);
    }
    return 0;
}

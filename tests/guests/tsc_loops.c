// guest: heavy
/* Loops that branch straight to their rdtsc or rdtscp, as waiting for a moment does: by a branch, and by
 * falling into the loop. Signals arrive in between, and their handlers see only the program's own code. */
#include "guest.h"

#include <sys/time.h>
#include <ucontext.h>

enum { TURNS = 200 };

extern char __executable_start, etext;

static volatile int alarms, is_in_loop;

/* The program has no code but its own: a signal in the middle of a loop is one in a loop. */
static void on_alarm(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)info;
    char *rip = (char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    CHECK(!is_in_loop || (&__executable_start <= rip && rip < &etext));
    alarms++;
}

/* The window before the loop has room for two jumps. The registers and the flags are as they should be
 * at each turn. */
static __attribute__((noinline)) uint64_t counter(int turns) {
    uint64_t last = 0, sum = 0, wrong = 0;
    __asm__ volatile("mov $0x1122334455667788, %%rcx\n\t"
                     "mov $0x99aabbccddeeff00, %%r11\n\t"
                     "xor %%r8d, %%r8d\n\t"
                     "1: rdtsc\n\t"
                     "setc %%r9b\n\t"
                     "shl $32, %%rdx\n\t"
                     "or %%rdx, %%rax\n\t"
                     "cmp %1, %%rax\n\t"
                     "adc $0, %2\n\t"
                     "mov %%rax, %1\n\t"
                     "add $1, %0\n\t"
                     "sub $1, %3\n\t"
                     "jnz 1b\n\t"
                     "mov $0x1122334455667788, %%rax\n\t"
                     "sub %%rax, %%rcx\n\t"
                     "add %%rcx, %2"
                     : "+r"(sum), "+r"(last), "+r"(wrong), "+r"(turns)
                     :
                     : "rax", "rcx", "rdx", "r8", "r9", "r11", "cc");
    CHECK(wrong == 0 && sum > 0);
    return last;
}

/* The same with rdtscp. */
static __attribute__((noinline)) uint64_t with_processor(int turns) {
    uint64_t last = 0, wrong = 0, or = 0;
    __asm__ volatile("mov $0x1122334455667788, %%r10\n\t"
                     "mov $0x99aabbccddeeff00, %%r11\n\t"
                     "1: rdtscp\n\t"
                     "or %%rcx, %3\n\t"
                     "shl $32, %%rdx\n\t"
                     "or %%rdx, %%rax\n\t"
                     "cmp %0, %%rax\n\t"
                     "adc $0, %1\n\t"
                     "mov %%rax, %0\n\t"
                     "sub $1, %2\n\t"
                     "jnz 1b"
                     : "+r"(last), "+r"(wrong), "+r"(turns), "+r"(or)
                     :
                     : "rax", "rcx", "rdx", "r10", "r11", "cc");
    CHECK(wrong == 0 && or < 1 << 20);
    return last;
}

/* A branch leads between the instructions before the loop, where the second jump would be. */
static __attribute__((noinline)) uint64_t with_second_entry(int turns, int entry) {
    uint64_t last = 0, steps = 0;
    __asm__ volatile("test %3, %3\n\t"
                     "jnz 3f\n\t"
                     "2: mov $0x11223344, %%r10d\n\t"
                     "3: mov $0x55667788, %%r8d\n\t"
                     "mov $0x55667788, %%r9d\n\t"
                     "1: rdtsc\n\t"
                     "shl $32, %%rdx\n\t"
                     "or %%rdx, %%rax\n\t"
                     "mov %%rax, %0\n\t"
                     "add $1, %1\n\t"
                     "sub $1, %2\n\t"
                     "jnz 1b"
                     : "+r"(last), "+r"(steps), "+r"(turns)
                     : "r"(entry)
                     : "rax", "rdx", "r8", "r9", "r10", "cc");
    CHECK(steps > 0);
    return last;
}

/* The loop begins before the rdtsc, and is entered from above and from below. */
static __attribute__((noinline)) uint64_t rotated(int turns) {
    uint64_t last = 0, steps = 0;
    __asm__ volatile("xor %%ecx, %%ecx\n\t"
                     "shl $32, %%rdx\n\t"
                     "or %%rdx, %%rax\n\t"
                     "cmp $0, %2\n\t"
                     "jl 2f\n\t"
                     "1: add $1, %%rcx\n\t"
                     "rdtsc\n\t"
                     "shl $32, %%rdx\n\t"
                     "or %%rdx, %%rax\n\t"
                     "mov %%rax, %0\n\t"
                     "sub $1, %2\n\t"
                     "jg 1b\n\t"
                     "2: mov %%rcx, %1"
                     : "+r"(last), "+r"(steps), "+r"(turns)
                     :
                     : "rax", "rcx", "rdx", "cc");
    CHECK(steps > 0);
    return last;
}

/* Waits as drivers do: until some time has passed. */
static __attribute__((noinline)) uint64_t until(uint64_t end) {
    uint64_t turns = 0;
    while (__builtin_ia32_rdtsc() < end) {
        turns++;
    }
    return turns;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    uint64_t before = counter(1), after;
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    is_in_loop = 1;
    for (int i = 0; i < 4; i++) {
        after = counter(TURNS);
        CHECK(before <= after);
        before = with_processor(TURNS);
        CHECK(after <= before);
        after = with_second_entry(200, i & 1);
        CHECK(before <= after);
        before = rotated(TURNS);
        CHECK(after <= before);
    }
    while (alarms < 3) {
        uint64_t start = __builtin_ia32_rdtsc();
        until(start + 200000);
        CHECK(__builtin_ia32_rdtsc() >= start + 200000);
    }
    is_in_loop = 0;
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(counter(TURNS) >= after);
        _exit(0);
    }
    expect_exit(child, 0);
    printf("%d alarms, the last at %llu\n", alarms, (unsigned long long)before);
    return 0;
}

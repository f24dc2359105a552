/* Loops of a few instructions, interrupted by a timer at any of them: the probe of an execution point may
 * change the status flags at some of these instructions and not at others. */
#include "guest.h"
#include <sys/time.h>
#include <ucontext.h>

#define TURNS 3000000ul
#define TICKS 3

static volatile sig_atomic_t ticks;
static volatile uint64_t flags_seen;

static void on_tick(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)info;
    const ucontext_t *at = context;
    flags_seen = flags_seen * 31 + (uint64_t)at->uc_mcontext.gregs[REG_EFL];
    ticks++;
}

/* The loop's first instruction overwrites the flags. */
static uint64_t down(uint64_t n) {
    __asm__ volatile("1: sub $1, %0\n jne 1b" : "+r"(n) : : "cc");
    return n;
}

/* Three instructions of different lengths before the branch, the last one overwrites the flags. */
static uint64_t up(uint64_t n) {
    uint64_t i = 0, next;
    __asm__ volatile("1: lea 1(%0), %1\n mov %1, %0\n cmp %2, %1\n jb 1b" : "+r"(i), "=&r"(next) : "r"(n) : "cc");
    return i;
}

/* The carry is kept from one turn to the next: `lea` and `dec` do not change it. */
static uint64_t carry(uint64_t n) {
    uint64_t sum = 0, value = 0x9e3779b97f4a7c15ull;
    __asm__ volatile("clc\n 1: adc %2, %0\n lea 3(%2), %2\n dec %1\n jnz 1b"
                     : "+r"(sum), "+r"(n), "+r"(value)
                     :
                     : "cc");
    return sum;
}

/* The sign is kept over the first instructions of the loop. */
static uint64_t sign(uint64_t n) {
    uint64_t sum = 0, is_negative = 0;
    __asm__ volatile("xor %k2, %k2\n"
                     "1: mov $0, %k2\n sets %b2\n lea 1(%0, %2), %0\n sub $1, %1\n jne 1b"
                     : "+r"(sum), "+r"(n), "+&r"(is_negative)
                     :
                     : "cc");
    return sum;
}

/* Entered in the middle: a branch leads between the instructions that a probe replaces. */
static uint64_t middle(uint64_t n) {
    uint64_t sum = 0;
    __asm__ volatile("jmp 2f\n 1: xor %1, %0\n 2: add $7, %0\n sub $1, %1\n test $3, %b1\n je 2b\n test %1, %1\n jns 1b"
                     : "+r"(sum), "+r"(n)
                     :
                     : "cc");
    return sum;
}

/* The only counter is in memory. */
static uint64_t memory(uint64_t n) {
    volatile uint64_t counter = n;
    __asm__ volatile("1: subq $1, %0\n jne 1b" : "+m"(counter) : : "cc");
    return counter;
}

int main(void) {
    static uint64_t (*const loops[])(uint64_t) = {down, up, carry, sign, middle, memory};
    struct sigaction action = {.sa_sigaction = on_tick, .sa_flags = SA_RESTART | SA_SIGINFO};
    CHECK(sigaction(SIGVTALRM, &action, NULL) == 0);
    struct itimerval often = {.it_interval = {0, 4000}, .it_value = {0, 4000}};
    CHECK(setitimer(ITIMER_VIRTUAL, &often, NULL) == 0);
    for (size_t n = 0; n < sizeof loops / sizeof *loops; n++) {
        uint64_t first = loops[n](TURNS);
        for (int begin = ticks; ticks < begin + TICKS;) {
            CHECK(loops[n](TURNS) == first);
        }
        printf("%zu: %llx\n", n, (unsigned long long)first);
    }
    printf("%llx\n", (unsigned long long)flags_seen);
    return 0;
}

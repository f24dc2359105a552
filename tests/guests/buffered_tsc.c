/* Reads the time-stamp counter at sites that can be patched to call the library, and at others: all
 * readings come from one clock, and the instruction changes no register but its own. */
#include "guest.h"

static uint64_t last;

static void next(uint64_t now) {
    CHECK(now >= last);
    last = now;
}

/* The preceding instructions have room for a jump, and no branch leads between them and the rdtsc. */
static __attribute__((noinline)) uint64_t ticks(void) {
    uint32_t low, high;
    uint64_t rcx = 1, r11 = 2, rsi = 3, flags;
    __asm__ volatile("mov $0x1122334455667788, %%rcx\n\t"
                     "mov $0x99aabbccddeeff00, %%r11\n\t"
                     "mov $0x7edcba9876543210, %%rsi\n\t"
                     "cmp %%rsi, %%rcx\n\t"
                     "mov $0x55, %%r8d\n\t"
                     "rdtsc\n\t"
                     "pushfq\n\t"
                     "pop %%r8"
                     : "=a"(low), "=d"(high), "=&c"(rcx), "=&S"(rsi)
                     :
                     : "r8", "r11", "cc", "memory");
    __asm__ volatile("mov %%r11, %0; mov %%r8, %1" : "=r"(r11), "=r"(flags));
    CHECK(rcx == 0x1122334455667788 && rsi == 0x7edcba9876543210);
    /* An unsigned comparison: carry is set if the first value is below the second. */
    CHECK((flags & 1) == (0x1122334455667788ull < 0x7edcba9876543210ull));
    (void)r11;
    return (uint64_t)high << 32 | low;
}

/* A branch leads to the rdtsc, so the recorder carries it out. */
static __attribute__((noinline)) uint64_t traced(int turns) {
    uint32_t low, high;
    __asm__ volatile("jmp 2f\n\t"
                     "1: nop\n\t"
                     "2: rdtsc\n\t"
                     "sub $1, %2\n\t"
                     "jnz 2b"
                     : "=a"(low), "=d"(high), "+r"(turns)
                     :
                     : "cc");
    return (uint64_t)high << 32 | low;
}

/* Reads the processor's number and node, too: the same as those of getcpu(2), unless the processor
 * changes in between. */
static __attribute__((noinline)) uint64_t with_processor(void) {
    uint64_t low, high, processor;
    unsigned cpu, node;
    for (int i = 0;; i++) {
        __asm__ volatile("mov $-1, %%rcx\n\t"
                         "mov $0x7edcba9876543210, %%rsi\n\t"
                         "mfence; lfence\n\t"
                         "rdtscp"
                         : "=a"(low), "=d"(high), "=&c"(processor)
                         :
                         : "rsi", "memory");
        CHECK(syscall(SYS_getcpu, &cpu, &node, NULL) == 0);
        if (processor == (node << 12 | cpu)) {
            break;
        }
        CHECK(i < 100);
    }
    CHECK(low >> 32 == 0 && high >> 32 == 0);
    return high << 32 | low;
}

/* One rdtsc directly after another, as in benchmarks: the instructions before each of them are sites,
 * too. */
static __attribute__((noinline)) uint64_t many(void) {
    uint32_t low, high;
    __asm__ volatile(".rept 64\n\t"
                     "rdtsc\n\t"
                     ".endr\n\t"
                     ".rept 20\n\t"
                     "rdtscp; lfence; rdtsc; cpuid; lfence; rdtsc\n\t"
                     ".endr"
                     : "=a"(low), "=d"(high)
                     :
                     : "rbx", "rcx");
    return (uint64_t)high << 32 | low;
}

int main(void) {
    for (int i = 0; i < 20; i++) {
        next(ticks());
        next(traced(2));
        next(ticks());
        next(with_processor());
    }
    for (int i = 0; i < 4; i++) {
        next(many());
    }
    struct timespec before, after;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
    uint64_t first = ticks();
    sleep_ms(20);
    uint64_t passed = ticks() - first;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
    double rate = (double)passed / ((double)(after.tv_sec - before.tv_sec) * 1e9 + (double)(after.tv_nsec - before.tv_nsec));
    CHECK(rate > 0.2 && rate < 20);
    for (int i = 0; i < 1000; i++) {
        next(ticks());
        next(with_processor());
    }
    pid_t child = fork();
    if (child == 0) {
        next(ticks());
        _exit(0);
    }
    expect_exit(child, 0);
    printf("%llu %f\n", (unsigned long long)last, rate);
    return 0;
}

// Lines that are passed very often: what conditions are evaluated on.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PASSES 100000

struct item {
    long value;
    struct item *next;
    char letter;
    signed char sign;
    unsigned char byte;
    short small;
};

long global;
volatile long sum;
volatile long watched;
long long wide;
struct item items[8];

__attribute__((noinline)) void work(int n, long m, const struct item *item) {
    volatile int local = n - 50000;
    sum += local + m; // work
    if (item)
        sum += item->value;
} // worked

// Every hundredth item is one.
__attribute__((noinline)) void maybe(const struct item *item) {
    sum += item != NULL; // maybe
}

// The second instruction is two bytes behind the first, and is jumped to.
__attribute__((noinline)) void spin(long n) {
    __asm__ volatile(".globl two\n"
                     "two:\n"
                     "xor %%eax, %%eax\n"
                     ".globl two_more\n"
                     "two_more:\n"
                     "inc %%rax\n"
                     "cmp %[n], %%rax\n"
                     "jl two_more\n"
                     :
                     : [n] "r"(n)
                     : "rax", "cc");
}

// Flags and registers are as they were, wherever a condition is evaluated.
__attribute__((noinline)) long flags(long n) {
    long bits = 0;
    __asm__ volatile("mov %[n], %%rcx\n"
                     "mov %[n], %%rdx\n"
                     "shl $3, %%rdx\n"
                     "cmp $7, %[n]\n"
                     ".globl compared\n"
                     "compared:\n"
                     "lea (%%rcx, %%rdx), %%rcx\n"
                     "lea 1(%%rcx), %%rcx\n"
                     "adc $0, %[bits]\n"
                     "add %%rcx, %[bits]\n"
                     : [bits] "+r"(bits)
                     : [n] "r"(n)
                     : "rcx", "rdx", "cc");
    return bits;
}

static void *thread(void *arg) {
    long first = (long)arg;
    for (int n = 0; n < 3000; n++) {
        work(first + n, n, NULL);
        if (n % 1000 == 999)
            usleep(100);
    }
    return NULL;
}

int main(void) {
    for (int n = 0; n < 8; n++)
        items[n] = (struct item){n * 11, &items[(n + 1) % 8], 'a' + n, -n, 250 + n, -300 * n};
    getppid(); // begin
    for (int n = 0; n < PASSES; n++) {
        global = n;
        wide = 0x100000000LL * n;
        if (n % 25000 == 0)
            watched = n;
        work(n, 3L * n, &items[n % 8]);
    }
    getppid(); // between
    for (int n = 0; n < 1000; n++)
        maybe(n % 100 == 99 ? &items[3] : NULL);
    for (int n = 0; n < 100; n++)
        spin(1000);
    for (int n = 0; n < 10000; n++)
        sum += flags(n);
    pthread_t a, b;
    pthread_create(&a, NULL, thread, (void *)200000L);
    pthread_create(&b, NULL, thread, (void *)300000L);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    printf("%ld\n", sum); // end
    return 0;
}

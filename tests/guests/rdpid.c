/* rdpid gives the same number of the processor as rdtscp, into any register, and keeps the flags. In replay both are
 * the recorded ones. */
#include "guest.h"
#include <cpuid.h>

static unsigned long by_rdtscp(void) {
    uint32_t low, high, aux;
    __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
    return aux;
}

static unsigned long into_rax(void) {
    unsigned long number;
    __asm__ volatile(".byte 0xf3, 0x0f, 0xc7, 0xf8" : "=a"(number));
    return number;
}

/* Returns the number only if carry was kept. */
static unsigned long into_r9(void) {
    unsigned long number, carry = 0;
    __asm__ volatile("stc\n\t"
                     "mov $-1, %%r9\n\t"
                     ".byte 0xf3, 0x41, 0x0f, 0xc7, 0xf9\n\t"
                     "adc $0, %1\n\t"
                     "mov %%r9, %0"
                     : "=r"(number), "+r"(carry)
                     :
                     : "r9", "cc");
    return carry == 1 ? number : ~0ul;
}

int main(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(c & 1u << 22)) {
        puts("this processor has none");
        return 0;
    }
    for (int i = 0; i < 3; i++) {
        unsigned long first, numbers[2], last;
        do { /* natively the program may move to another processor */
            first = by_rdtscp();
            numbers[0] = into_rax();
            numbers[1] = into_r9();
            last = by_rdtscp();
        } while (first != last);
        CHECK(numbers[0] == first);
        CHECK(numbers[1] == first);
        printf("%lu\n", first);
    }
    return 0;
}

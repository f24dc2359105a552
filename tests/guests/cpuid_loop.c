/* cpuid many times from one place: the recorder sends it to the library. Also straight to the instruction, past its beginning. */
#include "guest.h"

struct answer {
    uint32_t a, b, c, d;
};

/* The first call comes by the instructions before cpuid, and `straight` jumps to it. */
static struct answer ask(uint32_t leaf, uint32_t sub, int straight) {
    struct answer answer;
    __asm__ volatile("test %4, %4\n\t"
                     "mov %5, %%eax\n\t"
                     "jnz 1f\n\t"
                     "mov $0, %%ecx\n\t"
                     "1: cpuid\n\t"
                     : "=&a"(answer.a), "=&b"(answer.b), "=&c"(answer.c), "=&d"(answer.d)
                     : "r"(straight), "r"(leaf), "2"(sub));
    return answer;
}

int main(void) {
    struct answer first = ask(0, 0, 1), four = ask(4, 1, 1), above = ask(0x12345678, 0, 1);
    uint64_t sum = 0;
    for (int i = 0; i < 1000; i++) {
        struct answer by = ask(0, 0, 0), straight = ask(0, 7, i % 10 == 0);
        CHECK(by.a == first.a && by.b == first.b && by.c == first.c && by.d == first.d);
        CHECK(straight.a == first.a && straight.b == first.b);
        struct answer again = ask(4, 1, 1);
        CHECK(again.a == four.a && again.b == four.b && again.c == four.c && again.d == four.d);
        if (i % 100 == 0) {
            struct answer unknown = ask(0x12345678, 0, i % 200 == 0);
            CHECK(unknown.a == above.a && unknown.b == above.b);
        }
        sum += by.a + straight.b;
    }
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}

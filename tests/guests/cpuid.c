/* cpuid in all its leaves; two readings of the same leaf agree in what cannot change. */
#include "guest.h"
#include <cpuid.h>

int main(void) {
    unsigned int highest = __get_cpuid_max(0, NULL);
    CHECK(highest >= 1);
    for (unsigned int leaf = 0; leaf <= highest && leaf < 0x20; leaf++) {
        for (unsigned int sub = 0; sub < 3; sub++) {
            unsigned int a, b, c, d;
            __cpuid_count(leaf, sub, a, b, c, d);
            printf("%08x.%u: %08x %08x %08x %08x\n", leaf, sub, a, b, c, d);
        }
    }
    unsigned int brand[12];
    for (unsigned int i = 0; i < 3; i++) {
        __cpuid(0x80000002u + i, brand[4 * i], brand[4 * i + 1], brand[4 * i + 2], brand[4 * i + 3]);
    }
    printf("%.48s\n", (const char *)brand);
    return 0;
}

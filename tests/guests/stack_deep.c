/* Deep recursion and an alloca of 6 MiB: the stack grows by faults, without any call of mmap. */
#include "guest.h"
#include <alloca.h>

static uint64_t descend(int depth, uint64_t value) {
    volatile unsigned char frame[500];
    frame[0] = (unsigned char)value;
    frame[499] = (unsigned char)depth;
    if (depth == 0) {
        getppid(); /* an event at the deepest point */
        return value;
    }
    uint64_t below = descend(depth - 1, value * 31 + (uintptr_t)frame);
    CHECK(frame[499] == (unsigned char)depth);
    return below + frame[0];
}

static uint64_t large(uint64_t seed) {
    unsigned char *block = alloca(6 << 20);
    block[0] = 1; /* far below the stack pointer's old pages */
    getppid();
    fill_random(block, 6 << 20, &seed);
    getppid();
    return checksum(block, 6 << 20);
}

int main(void) {
    uint64_t seed = fresh_seed();
    printf("%016llx\n", (unsigned long long)descend(8000, seed));
    printf("%016llx\n", (unsigned long long)large(seed));
    printf("%016llx\n", (unsigned long long)descend(2000, seed));
    return 0;
}

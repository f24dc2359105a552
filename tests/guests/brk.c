/* The heap grows and shrinks; memory that was given back is zero when it is allocated again. */
#include "guest.h"

int main(void) {
    char *start = sbrk(0);
    CHECK(start != (void *)-1);
    for (int round = 0; round < 20; round++) {
        size_t size = 5000u * (unsigned)(round + 1);
        CHECK(sbrk((intptr_t)size) == start);
        for (size_t i = 0; i < size; i++) {
            CHECK(start[i] == 0);
        }
        memset(start, round + 1, size);
        CHECK(brk(start) == 0);
        /* The page of `start` stays mapped, so the guest itself clears the rest of that page. */
        memset(start, 0, (4096 - ((uintptr_t)start & 4095)) & 4095);
    }
    CHECK(brk(start + 100000) == 0);
    memset(start, 9, 100000);
    CHECK(syscall(SYS_brk, 0) == (long)(uintptr_t)(start + 100000));
    CHECK(syscall(SYS_brk, 1) == (long)(uintptr_t)(start + 100000)); /* refused: stays */
    CHECK(brk(start + 50000) == 0);
    printf("%p %016llx\n", (void *)start, (unsigned long long)checksum(start, 50000));
    return 0;
}

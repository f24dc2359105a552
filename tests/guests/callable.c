// guest: special cflags=-no-pie
/* A function for `rr rerun --function`, whose address is the output. */
#include "guest.h"

__attribute__((noinline)) long called(void) {
    volatile long sum = 40;
    for (int i = 0; i < 2; i++) {
        sum++;
    }
    return sum;
}

int main(void) {
    printf("%p\n", (void *)(uintptr_t)called);
    fflush(stdout);
    return called() != 42;
}

// Computes for a while, without a system call.
#include <stdio.h>

volatile unsigned long state = 1;
volatile int phase;

__attribute__((noinline)) static void work(unsigned long n) {
    for (unsigned long i = 0; i < n; i++)
        state = state * 6364136223846793005u + 1;
}

int main(void) {
    phase = 1;
    work(1500000000);
    phase = 2; // end
    printf("%lu\n", state);
    return 0;
}

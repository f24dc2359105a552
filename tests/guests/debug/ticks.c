// A loop whose branch leads straight to an instruction that reads the time-stamp counter.
#include <stdio.h>

unsigned long turns, last;

// The two moves before the loop have room for two jumps of five bytes.
__attribute__((noinline)) void wait_a_while(long left) {
    unsigned long high, now;
    __asm__ volatile("mov $0x11223344, %%r8d\n\t"
                     "before_read: mov $0x55667788, %%r9d\n\t"
                     "read_ticks: rdtsc\n\t"
                     "behind_read: addq $1, %2\n\t"
                     "sub $1, %3\n\t"
                     "jnz read_ticks"
                     : "=a"(now), "=d"(high), "+m"(turns), "+r"(left)
                     :
                     : "r8", "r9", "cc");
    last = high << 32 | now;
}

int main(void) {
    wait_a_while(30);
    wait_a_while(30);
    printf("%lu turns\n", turns); // printed
    return 0;
}

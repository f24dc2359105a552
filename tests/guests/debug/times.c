// What the times of searches are measured with.
#include <stdio.h>
#include <unistd.h>

volatile int written;
volatile unsigned long state = 1;

__attribute__((noinline)) void calls(void) {
    for (int i = 0; i < 1000; i++)
        getppid();
}

__attribute__((noinline)) void writes(void) {
    for (int i = 0; i < 10000; i++) {
        written = i; // write
        for (int j = 0; j < 100; j++)
            state = state * 3 + 1;
    }
}

int main(void) {
    writes();
    calls(); // calls
    state++; // after
    puts("done");
    return 0;
}

// Many system calls that need no stop: long intervals, with the number of calls in a variable.
#include <stdio.h>
#include <unistd.h>

volatile long count;

__attribute__((noinline)) static void ask(void) {
    getppid();
    count++; // counted
}

int main(void) {
    for (int i = 0; i < 20000; i++)
        ask();
    printf("%ld\n", count); // end
    return 0;
}

/* A long run with many system calls, and functions that are called once: 1 %, 50 % and 99 % before its end. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((noinline)) void back_1(void) { __asm__ volatile("nop"); }
__attribute__((noinline)) void back_50(void) { __asm__ volatile("nop"); }
__attribute__((noinline)) void back_99(void) { __asm__ volatile("nop"); }
__attribute__((noinline)) void the_end(void) { __asm__ volatile("nop"); }

static unsigned work(unsigned x, int turns) {
    while (turns--)
        x = x * 1664525u + 1013904223u;
    return x;
}

int main(int argc, char **argv) {
    long total = argc > 1 ? atol(argv[1]) : 1000;
    int turns = argc > 2 ? atoi(argv[2]) : 1000;
    int zero = open("/dev/zero", O_RDONLY);
    char buf[64];
    unsigned x = 1;
    for (long n = 0; n < total; n++) {
        if (n == total / 100)
            back_99();
        if (n == total / 2)
            back_50();
        if (n == total * 99 / 100)
            back_1();
        if (read(zero, buf, sizeof buf) < 0)
            return 1;
        x = work(x + buf[0], turns);
    }
    printf("%u\n", x);
    fflush(stdout);
    the_end();
    return 0;
}

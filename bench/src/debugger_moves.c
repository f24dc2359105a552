/* What a debugger moves over: a function with 1,000 system calls, a variable written 10,000 times, a line passed often. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

volatile long written;
volatile long passed;

__attribute__((noinline)) int many_calls(int fd) {
    char byte;
    int sum = 0;
    for (int n = 0; n < 1000; n++)
        sum += read(fd, &byte, 1);
    return sum;
}
__attribute__((noinline)) void many_writes(void) {
    for (long n = 0; n < 10000; n++)
        written = n;
}
__attribute__((noinline)) void pass(long n) { passed += n; }
__attribute__((noinline)) void before_passes(void) { __asm__ volatile("nop"); }
__attribute__((noinline)) void after_passes(void) { __asm__ volatile("nop"); }

int main(int argc, char **argv) {
    long passes = argc > 1 ? atol(argv[1]) : 1000;
    int zero = open("/dev/zero", O_RDONLY);
    int sum = many_calls(zero);
    many_writes();
    before_passes();
    for (long n = 0; n < passes; n++)
        pass(n);
    after_passes();
    printf("%d %ld\n", sum, passed);
    return 0;
}

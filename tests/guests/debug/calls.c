// Many system calls, and a few places far from each other.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

volatile int rare;

__attribute__((noinline)) static void mark(int n) {
    rare = n;
}

__attribute__((noinline)) static void end(void) {
    rare = -1;
}

int main(void) {
    char byte = 0;
    int zero = open("/dev/zero", O_RDONLY);
    for (int n = 0; n < 3000; n++) {
        if (n == 10 || n == 1200 || n == 1210 || n == 2500)
            mark(n);
        if (read(zero, &byte, 1) != 1)
            return 1;
    }
    end();
    printf("%d\n", rare);
    return 0;
}

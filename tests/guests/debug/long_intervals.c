/* Long intervals, of 0.1 s or more each, between system calls: twenty, or as many as the argument says. */
#include <stdlib.h>
#include <unistd.h>

static volatile unsigned long counted;

static void work(void) {
    for (unsigned long n = 0; n < 300000000; n++)
        __asm__ volatile("");
    counted++;
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 20;
    for (int n = 0; n < count; n++) {
        work();
        getppid();
    }
    return 0;
}

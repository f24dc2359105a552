/* Twenty intervals of some 100 ms each, between system calls. */
#include <unistd.h>

static volatile unsigned long counted;

static void work(void) {
    for (unsigned long n = 0; n < 60000000; n++)
        __asm__ volatile("");
    counted++;
}

int main(void) {
    for (int n = 0; n < 20; n++) {
        work();
        getppid();
    }
    return 0;
}

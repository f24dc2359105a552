// calls N: N short system calls. computes N: N ms without a system call. sleeps N: N times 20 ms of sleep.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// The time that this process has had on a CPU; the kernel is asked seldom, as that is a system call.
static long used_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static unsigned long compute(unsigned long n) {
    volatile unsigned long x = 1;
    for (unsigned long i = 0; i < n; i++)
        x = x * 6364136223846793005u + i;
    return x;
}

int main(int argc, char **argv) {
    long n = argc > 2 ? atol(argv[2]) : 0;
    unsigned long sum = 0;
    if (!strcmp(argv[1], "calls")) {
        int fd = open("/dev/zero", O_RDONLY);
        char byte;
        for (long i = 0; i < n; i++)
            sum += read(fd, &byte, 1);
    } else if (!strcmp(argv[1], "computes")) {
        // How much is a millisecond?
        long before = used_ms();
        compute(20000000);
        long took = used_ms() - before;
        sum = compute(20000000 / (took ? took : 1) * n);
    } else {
        struct timespec t = { 0, 20000000 };
        for (long i = 0; i < n; i++)
            sum += nanosleep(&t, 0) == 0;
    }
    printf("%lu\n", sum);
    return 0;
}

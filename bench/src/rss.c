/* A process with a chosen resident size, for the cost of a checkpoint against that of a plain fork.
 *
 *     rss fork MIB          prints the median time of 41 forks, in microseconds
 *     rss events MIB N      makes N system calls, writing to a page between any two
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        return 2;
    }
    size_t size = (size_t)atol(argv[2]) << 20;
    unsigned char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) {
        return 3;
    }
    /* Half of each page is noise: about as compressible as real heaps are. */
    uint64_t state = 88172645463325252u;
    for (size_t page = 0; page < size; page += 4096) {
        for (size_t i = 0; i < 2048; i += 8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            memcpy(area + page + i, &state, 8);
        }
    }
    if (strcmp(argv[1], "fork") == 0) {
        double times[41];
        for (int i = 0; i < 41; i++) {
            area[(size_t)i * 4096 % size]++;
            double start = now_us();
            pid_t child = fork();
            if (child == 0) {
                _exit(0);
            }
            times[i] = now_us() - start;
            waitpid(child, NULL, 0);
        }
        qsort(times, 41, sizeof *times, by_value);
        printf("%.1f\n", times[20]);
        return 0;
    }
    long calls = argc > 3 ? atol(argv[3]) : 1000;
    for (long i = 0; i < calls; i++) {
        area[(size_t)i * 40960 % size]++;
        syscall(SYS_getppid);
    }
    return 0;
}

/* A process that holds memory, dirties it and makes system calls, all at a rate that its arguments say.
 *
 *     busy turns                    prints how many turns of the loop below take 20 microseconds
 *     busy forks MIB N              prints the times of N forks, in microseconds
 *     busy run MIB SECONDS TURNS PAGES STAMPS [frozen]
 *
 * `run` does a fixed amount of work: in each "second" 50,000 system calls, TURNS turns after each of them, and PAGES of the
 * pages that it holds are written, one after the other, half of each. The file STAMPS has the time at the end of each second. With
 * `frozen` it forks once in each second, and the child does nothing until the next fork: what a checkpoint costs at least, because
 * of the pages that are copied when they are written.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLS 50000L
#define PAGE 4096

static uint64_t noise = 88172645463325252u;
static volatile unsigned sink;

static double now(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Half of each page is noise: about as compressible as real heaps are. */
static void fill(unsigned char *page) {
    for (size_t i = 0; i < PAGE / 2; i += 8) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        memcpy(page + i, &noise, 8);
    }
}

static void spin(long turns) {
    unsigned x = sink;
    while (turns--) {
        x = x * 1664525u + 1013904223u;
        __asm__ volatile("" : "+r"(x));
    }
    sink = x;
}

static void thaw(pid_t child) {
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "turns") == 0) {
        double best = 1e9;
        for (int i = 0; i < 20; i++) {
            double start = now(CLOCK_MONOTONIC);
            spin(1000000);
            double took = now(CLOCK_MONOTONIC) - start;
            best = took < best ? took : best;
        }
        printf("%.0f\n", 20 * 1000000 / best);
        return 0;
    }
    if (argc < 4)
        return 2;
    size_t size = (size_t)atol(argv[2]) << 20, pages = size / PAGE;
    unsigned char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        return 3;
    for (size_t page = 0; page < pages; page++)
        fill(area + page * PAGE);
    if (strcmp(argv[1], "forks") == 0) {
        for (long i = 0; i < atol(argv[3]); i++) {
            area[(size_t)i * PAGE % size]++;
            double start = now(CLOCK_MONOTONIC);
            pid_t child = fork();
            if (child == 0)
                _exit(0);
            printf("%.1f\n", now(CLOCK_MONOTONIC) - start);
            waitpid(child, NULL, 0);
        }
        return 0;
    }
    if (argc < 7)
        return 2;
    long seconds = atol(argv[3]), turns = atol(argv[4]), writes = atol(argv[5]), next = 0;
    int zero = open("/dev/zero", O_RDONLY), stamps = open(argv[6], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (zero < 0 || stamps < 0)
        return 4;
    double *ends = calloc((size_t)seconds, sizeof *ends);
    pid_t child = 0;
    char buf[64];
    for (long second = 0; second < seconds; second++) {
        if (argc > 7) {
            thaw(child);
            child = fork();
            if (child == 0)
                for (;;)
                    pause();
        }
        long written = 0;
        for (long call = 0; call < CALLS; call++) {
            if (pread(zero, buf, sizeof buf, 0) != sizeof buf)
                return 5;
            for (; written * CALLS < call * writes; written++)
                fill(area + (size_t)next++ % pages * PAGE);
            spin(turns);
        }
        ends[second] = now(CLOCK_REALTIME);
    }
    thaw(child);
    for (long second = 0; second < seconds; second++)
        dprintf(stamps, "%.0f\n", ends[second]);
    return 0;
}

/* The workloads that need a program of their own; see workloads.rs.
 *
 *     workloads read N       N reads of one byte from /dev/zero
 *     workloads compute N    N turns of a loop without system calls
 *     workloads mutex N      4 threads, each locking and unlocking one mutex N times
 *     workloads clock N      clock_gettime N times
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile long counter;

static void *locker(void *arg) {
    long n = (long)arg;
    for (long i = 0; i < n; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static int do_read(long n) {
    int fd = open("/dev/zero", O_RDONLY);
    char byte;
    for (long i = 0; i < n; i++) {
        if (read(fd, &byte, 1) != 1) {
            return 1;
        }
    }
    return 0;
}

static int do_compute(long n) {
    uint64_t x = 88172645463325252u, sum = 0;
    for (long i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        sum += x % 1000003;
    }
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}

static int do_mutex(long n) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, locker, (void *)n)) {
            return 1;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    return counter == THREADS * n ? 0 : 1;
}

static int do_clock(long n) {
    struct timespec now;
    long sum = 0;
    for (long i = 0; i < n; i++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        sum += now.tv_nsec;
    }
    printf("%ld\n", sum);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        return 2;
    }
    long n = atol(argv[2]);
    if (!strcmp(argv[1], "read")) {
        return do_read(n);
    }
    if (!strcmp(argv[1], "compute")) {
        return do_compute(n);
    }
    if (!strcmp(argv[1], "mutex")) {
        return do_mutex(n);
    }
    if (!strcmp(argv[1], "clock")) {
        return do_clock(n);
    }
    return 2;
}

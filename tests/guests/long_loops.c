/* Threads that compute for a long time, and a timer that interrupts them: execution points in the
 * middle of loops, some of them tight and some with much memory. Prints the state of the loops that the
 * handler sees. */
// guest: special cflags=-O1,-pthread
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

static volatile uint64_t progress;
static uint64_t seen;

static void handler(int signal) {
    (void)signal;
    seen = seen * 31 + progress;
}

/* The carry is kept from turn to turn, so a probe must keep the flags at each instruction. */
static uint64_t tight(uint64_t turns, volatile uint64_t *now) {
    uint64_t sum = 0, value = 0x9e3779b97f4a7c15ull;
    __asm__ volatile("clc\n 1: adc %2, %0\n lea 3(%2), %2\n mov %0, %3\n dec %1\n jnz 1b"
                     : "+r"(sum), "+r"(turns), "+r"(value), "=m"(*now)
                     :
                     : "cc");
    return sum;
}

static uint64_t sieve(int rounds) {
    static unsigned char is_no_prime[1 << 16];
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        memset(is_no_prime, 0, sizeof is_no_prime);
        for (int i = 2; i < 1 << 16; i++) {
            progress++;
            if (!is_no_prime[i]) {
                sum += i;
                for (int k = 2 * i; k < 1 << 16; k += i) {
                    is_no_prime[k] = 1;
                }
            }
        }
    }
    return sum;
}

static void *computing(void *arg) {
    uint64_t now;
    return (void *)tight((uint64_t)arg, &now);
}

int main(int argc, char **argv) {
    long size = argc > 1 ? atol(argv[1]) : 1;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGPROF, &action, NULL) == 0);
    struct itimerval often = {{0, 20000}, {0, 20000}};
    CHECK(setitimer(ITIMER_PROF, &often, NULL) == 0);
    pthread_t threads[2];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, computing, (void *)(size * 300000000)) == 0);
    }
    CHECK(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
    uint64_t sum = sieve((int)size * 100) ^ tight((uint64_t)size * 300000000, &progress);
    for (int i = 0; i < 2; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0);
        sum ^= (uint64_t)result;
    }
    printf("%016llx %016llx\n", (unsigned long long)sum, (unsigned long long)seen);
    return 0;
}

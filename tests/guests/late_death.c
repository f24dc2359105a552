// guest: special
/* Computes for a while, and then dies of a signal in the way that the first argument names. With a
 * third argument, a parent waits for it and reports the signal. */
#include "guest.h"
#include <pthread.h>
#include <setjmp.h>
#include <string.h>
#include <time.h>

static volatile uint64_t sum;

/* Computes for this number of milliseconds. */
static void compute(long ms) {
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        for (int i = 0; i < 100000; i++) sum += i * i;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < ms);
}

static volatile int endless = 1;

static int overflow(volatile char *below) {
    volatile char here[4096];
    memset((char *)here, below[0], sizeof here);
    return (endless ? overflow(here) : 0) + here[1];
}

static void block(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
}

static void *die(void *arg) {
    const char *how = arg;
    volatile int zero = 0;
    if (!strcmp(how, "null")) *(volatile int *)0 = 1;
    if (!strcmp(how, "blocked")) {
        block(SIGSEGV);
        *(volatile int *)8 = 1;
    }
    if (!strcmp(how, "ignored")) {
        signal(SIGSEGV, SIG_IGN);
        *(volatile int *)16 = 1;
    }
    if (!strcmp(how, "divide")) exit(1234 / zero);
    if (!strcmp(how, "illegal")) __asm__ volatile("ud2");
    if (!strcmp(how, "trap")) __asm__ volatile("int3");
    if (!strcmp(how, "stack")) exit(overflow("x"));
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "term")) raise(SIGTERM);
    if (!strcmp(how, "handler")) {
        /* The handler leaves by the signal's default action. */
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    return NULL;
}

static void *wait_for_ever(void *arg) {
    pause();
    return arg;
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    if (argc > 3) {
        pid_t child = fork();
        if (child != 0) {
            int status;
            CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
            printf("killed by %d\n", WTERMSIG(status));
            return 0;
        }
    }
    printf("computing\n");
    fflush(stdout);
    compute(atol(argv[2]));
    if (!strncmp(argv[1], "thread-", 7)) {
        pthread_t threads[2];
        CHECK(pthread_create(&threads[0], NULL, wait_for_ever, NULL) == 0);
        CHECK(pthread_create(&threads[1], NULL, die, argv[1] + 7) == 0);
        pthread_join(threads[1], NULL);
    }
    die(argv[1]);
    return 0;
}

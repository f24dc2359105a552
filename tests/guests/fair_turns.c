/* Tasks that never wait, and others that need a turn: a task that is woken gets a turn soon; a task
 * that holds a lock at every possible end of its turn still gives the lock away; and a chain of new
 * tasks does not keep others from their turns. */
#include "guest.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

static atomic_int stop;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double seconds(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *opens(void *unused) {
    while (!atomic_load(&stop)) {
        int fd = open("/dev/null", O_RDONLY);
        CHECK(fd >= 0 && close(fd) == 0);
    }
    return unused;
}

static void *holds(void *unused) {
    struct timespec now;
    while (!atomic_load(&stop)) {
        pthread_mutex_lock(&lock);
        clock_gettime(CLOCK_MONOTONIC, &now);
        pthread_mutex_unlock(&lock);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    return unused;
}

/* Sleeps and takes the lock, beside a thread that never waits. */
static void beside(void *(*other)(void *)) {
    pthread_t thread;
    double begin = seconds();
    atomic_store(&stop, 0);
    CHECK(pthread_create(&thread, NULL, other, NULL) == 0);
    for (int i = 0; i < 5; i++) {
        pthread_mutex_lock(&lock);
        pthread_mutex_unlock(&lock);
        sleep_ms(1);
    }
    atomic_store(&stop, 1);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(seconds() - begin < 20);
}

static atomic_int left = 10;

static void *counts(void *unused) {
    while (atomic_load(&left) > 0) {
        pthread_mutex_lock(&lock);
        atomic_fetch_sub(&left, 1);
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

/* Yields only while it holds the lock that the other needs. */
static void yields(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, counts, NULL) == 0);
    while (atomic_load(&left) > 0) {
        pthread_mutex_lock(&lock);
        sched_yield();
        pthread_mutex_unlock(&lock);
    }
    CHECK(pthread_join(thread, NULL) == 0);
}

/* Each process forks the next one and exits. The first process reads a byte from each, and then ends
 * the chain. */
static void chain(void) {
    enum { MOST = 2000 };
    volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(ends[0]);
        for (;;) {
            shared[1]++;
            if (shared[0] || shared[1] > MOST) {
                _exit(0);
            }
            CHECK(write(ends[1], "x", 1) == 1);
            pid_t next = fork();
            CHECK(next >= 0);
            if (next > 0) {
                _exit(0);
            }
        }
    }
    close(ends[1]);
    char byte;
    int n = 0;
    while (read(ends[0], &byte, 1) == 1) {
        if (++n == 3) {
            shared[0] = 1;
        }
    }
    expect_exit(child, 0);
    CHECK(shared[1] < MOST);
}

int main(void) {
    beside(opens);
    beside(holds);
    yields();
    chain();
    printf("done by %d\n", getpid());
    return 0;
}

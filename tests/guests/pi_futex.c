// guest: heavy
/* Locks with priority inheritance, whose words the kernel writes: contention, time-outs, signals, owners that die,
 * in threads and in processes, and condition variables on them. */
#include "guest.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif

typedef volatile uint32_t word;

static long futex(word *at, int operation, uint32_t value, const struct timespec *timeout, word *second,
                  uint32_t third) {
    return syscall(SYS_futex, at, operation, value, timeout, second, third);
}

static uint32_t own(void) {
    return (uint32_t)syscall(SYS_gettid);
}

static void alone(void) {
    word lock = 0;
    for (int i = 0; i < 3; i++) {
        CHECK(futex(&lock, i == 1 ? FUTEX_TRYLOCK_PI : FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
        CHECK(lock == own());
        CHECK(futex(&lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == -1 && errno == EDEADLK);
        CHECK(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
        CHECK(lock == 0);
    }
    CHECK(futex(&lock, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == -1 && errno == EPERM);
    CHECK(futex((word *)8, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == -1 && errno == EFAULT);
    CHECK(futex((word *)((char *)&lock + 1), FUTEX_LOCK_PI, 0, NULL, NULL, 0) == -1 && errno == EINVAL);
    lock = 0x3fffffff; /* nobody's tid */
    CHECK(futex(&lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == -1 && errno == ESRCH);
}

static pthread_mutex_t mutex;
static int counter;

static pthread_mutexattr_t *inheriting(int robust, int shared) {
    static pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    pthread_mutexattr_setrobust(&attr, robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
    pthread_mutexattr_setpshared(&attr, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE);
    return &attr;
}

static void *counts(void *arg) {
    (void)arg;
    for (int i = 0; i < 20; i++) {
        CHECK(pthread_mutex_lock(&mutex) == 0);
        int before = counter;
        sched_yield();
        counter = before + 1;
        CHECK(pthread_mutex_unlock(&mutex) == 0);
    }
    return NULL;
}

static void contended(void) {
    CHECK(pthread_mutex_init(&mutex, inheriting(0, 0)) == 0);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, counts, NULL) == 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(counter == 80);
}

/* Waits until somebody waits for a lock: the kernel says so in its word, in the middle of that call. */
static uint32_t wait_for_waiter(word *lock) {
    uint32_t now;
    while (((now = *lock) & FUTEX_WAITERS) == 0) {
        sched_yield();
    }
    return now;
}

static word plain;
static volatile int got;

static void *locks_plain(void *operation) {
    while (futex(&plain, (int)(intptr_t)operation, 0, NULL, NULL, 0) != 0) {
        CHECK(errno == EINTR);
    }
    CHECK((plain & FUTEX_TID_MASK) == own());
    got = 1;
    CHECK(futex(&plain, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
    return NULL;
}

static void handed_over(void) {
    const int operations[] = {FUTEX_LOCK_PI, FUTEX_LOCK_PI2};
    for (int i = 0; i < 2; i++) {
        got = 0;
        CHECK(futex(&plain, operations[i], 0, NULL, NULL, 0) == 0);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, locks_plain, (void *)(intptr_t)operations[i]) == 0);
        CHECK(wait_for_waiter(&plain) == (own() | FUTEX_WAITERS));
        sleep_ms(2);
        CHECK(!got);
        CHECK(futex(&plain, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
        uint32_t now = plain; /* the other's already, or free again */
        CHECK((now & FUTEX_TID_MASK) != own());
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(got && plain == 0);
        printf("handed over to %x\n", now);
    }
}

static void *times_out(void *arg) {
    struct timespec end;
    clock_gettime(arg == NULL ? CLOCK_REALTIME : CLOCK_MONOTONIC, &end);
    end.tv_nsec += 3000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++, end.tv_nsec -= 1000000000;
    }
    CHECK(futex(&plain, arg == NULL ? FUTEX_LOCK_PI : FUTEX_LOCK_PI2, 0, &end, NULL, 0) == -1);
    CHECK(errno == ETIMEDOUT);
    return NULL;
}

static void timeouts(void) {
    CHECK(futex(&plain, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, times_out, i == 0 ? NULL : &mutex) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(plain == (own() | FUTEX_WAITERS)); /* stays until the owner unlocks */
    }
    CHECK(futex(&plain, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0 && plain == 0);
}

static volatile int handled;

static void on_signal(int signal) {
    (void)signal;
    handled++;
}

static void interrupted(void) {
    signal(SIGUSR1, on_signal);
    got = 0;
    CHECK(futex(&plain, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, locks_plain, (void *)FUTEX_LOCK_PI) == 0);
    wait_for_waiter(&plain);
    CHECK(pthread_kill(thread, SIGUSR1) == 0);
    while (!handled) {
        sched_yield();
    }
    CHECK(!got);
    sleep_ms(2); /* it waits again */
    CHECK(futex(&plain, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(got && plain == 0);
}

static void *dies_with(void *lock) {
    if (lock != NULL) {
        CHECK(pthread_mutex_lock(lock) == 0);
    } else {
        CHECK(futex(&plain, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
        got = 2;
        wait_for_waiter(&plain);
    }
    return NULL;
}

/* An owner that dies: of a lock that the C library has in the robust list, and of a plain one. */
static void dead_owners(void) {
    pthread_t thread;
    CHECK(pthread_mutex_init(&mutex, inheriting(1, 0)) == 0);
    CHECK(pthread_create(&thread, NULL, dies_with, &mutex) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_mutex_lock(&mutex) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&mutex) == 0);
    CHECK(pthread_mutex_unlock(&mutex) == 0);

    got = 0;
    CHECK(pthread_create(&thread, NULL, dies_with, NULL) == 0);
    while (got != 2) {
        sched_yield();
    }
    CHECK(futex(&plain, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
    CHECK((plain & FUTEX_TID_MASK) == own());
    printf("after a death %x\n", plain);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(futex(&plain, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
}

/* The same among processes. */
static void processes(void) {
    struct {
        pthread_mutex_t mutex;
        word lock;
        volatile int locked;
    } *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    CHECK(pthread_mutex_init(&shared->mutex, inheriting(1, 1)) == 0);
    for (int robust = 0; robust < 2; robust++) {
        shared->locked = 0;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (robust) {
                CHECK(pthread_mutex_lock(&shared->mutex) == 0);
            } else {
                CHECK(futex(&shared->lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
            }
            shared->locked = 1;
            if (!robust) {
                CHECK(wait_for_waiter(&shared->lock) == (own() | FUTEX_WAITERS));
            }
            sleep_ms(2);
            _exit(20);
        }
        while (!shared->locked) {
            sched_yield();
        }
        if (robust) {
            CHECK(pthread_mutex_lock(&shared->mutex) == EOWNERDEAD);
        } else {
            CHECK(futex(&shared->lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
            CHECK((shared->lock & FUTEX_TID_MASK) == own());
            CHECK(futex(&shared->lock, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
        }
        expect_exit(child, 20);
    }
}

static word condition;
static volatile int waiting, woken;

static void *waits_for_condition(void *arg) {
    (void)arg;
    __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    long result = futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, NULL, &plain, 0);
    if (result != 0) {
        CHECK(errno == EAGAIN);
        CHECK(futex(&plain, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
    }
    CHECK((plain & FUTEX_TID_MASK) == own());
    woken++;
    CHECK(futex(&plain, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
    return NULL;
}

static void conditions(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, waits_for_condition, NULL) == 0);
    }
    while (waiting != 3) {
        sched_yield();
    }
    sleep_ms(5);
    CHECK(futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)(intptr_t)INT_MAX, &plain, 7) == -1 &&
          errno == EAGAIN);
    long moved = futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)(intptr_t)INT_MAX, &plain, 0);
    CHECK(moved >= 0);
    condition = 1;
    printf("moved %ld\n", moved);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(woken == 3 && plain == 0);
}

int main(void) {
    alone();
    contended();
    handed_over();
    timeouts();
    interrupted();
    dead_owners();
    processes();
    conditions();
    puts("done");
    return 0;
}

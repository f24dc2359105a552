/* Futexes beyond wait and wake: requeue, bit sets, wake with an operation, waiting for several, and the
 * result of a mutex with priority inheritance on a kernel without them. */
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>

static volatile int words[4];
static volatile int woken;

static long futex(volatile int *word, int op, int value, long second, volatile int *other, int third) {
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, second, other, third);
}

static void *wait_first(void *argument) {
    CHECK(futex(&words[0], FUTEX_WAIT, 0, 0, NULL, 0) == 0);
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return argument;
}

static void *wait_bits(void *argument) {
    CHECK(futex(&words[2], FUTEX_WAIT_BITSET, 0, 0, NULL, (int)(intptr_t)argument) == 0);
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return argument;
}

/* Repeats the call until this many threads have been moved or woken: some may not be waiting yet. */
static void requeue_all(int wake, int total) {
    long done = 0;
    int first = wake;
    while (done < total) {
        long n = futex(&words[0], FUTEX_CMP_REQUEUE, first, total, &words[1], 0);
        CHECK(n >= 0);
        done += n;
        if (n > 0) {
            first = 0;
        }
        sleep_ms(1);
    }
}

int main(void) {
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        CHECK(pthread_create(&threads[i], NULL, wait_first, NULL) == 0);
    }
    CHECK(futex(&words[0], FUTEX_CMP_REQUEUE, 1, 1, &words[1], 7) == -1 && errno == EAGAIN);
    requeue_all(1, 6);
    while (woken != 1) {
        sleep_ms(1);
    }
    CHECK(futex(&words[0], FUTEX_WAKE, 10, 0, NULL, 0) == 0);
    CHECK(futex(&words[1], FUTEX_REQUEUE, 2, 1, &words[3], 0) == 3);
    while (woken != 3) {
        sleep_ms(1);
    }
    CHECK(futex(&words[3], FUTEX_WAKE, 10, 0, NULL, 0) == 1 && futex(&words[1], FUTEX_WAKE, 10, 0, NULL, 0) == 2);
    for (int i = 0; i < 6; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }

    woken = 0;
    for (intptr_t i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, wait_bits, (void *)(intptr_t)(1 << i)) == 0);
    }
    for (int i = 3; i >= 0; i--) {
        while (futex(&words[2], FUTEX_WAKE_BITSET, 10, 0, NULL, 1 << i) == 0) {
            sleep_ms(1);
        }
        CHECK(pthread_join(threads[i], NULL) == 0 && woken == 4 - i);
    }

    /* words[1] |= 5; wakes a waiter of words[0], and of words[1] if it was 2 */
    words[0] = 0;
    words[1] = 2;
    CHECK(pthread_create(&threads[0], NULL, wait_first, NULL) == 0);
    sleep_ms(2);
    long n = 0;
    while (n == 0) {
        n = syscall(SYS_futex, &words[0], FUTEX_WAKE_OP_PRIVATE, 1, 1, &words[1],
                    FUTEX_OP(FUTEX_OP_OR, 5, FUTEX_OP_CMP_EQ, 2));
        CHECK(n >= 0 && words[1] == 7);
    }
    CHECK(pthread_join(threads[0], NULL) == 0);

    struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } several[2] = {{0, (uintptr_t)&words[0], 2 | 128, 0}, {9, (uintptr_t)&words[3], 2 | 128, 0}};
    n = syscall(449, several, 2, 0, NULL, 0); /* futex_waitv: the second has another value */
    CHECK(n == -1 && (errno == EAGAIN || errno == ENOSYS));

    pthread_mutexattr_t attributes;
    pthread_mutex_t mutex;
    pthread_mutexattr_init(&attributes);
    CHECK(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
    int made = pthread_mutex_init(&mutex, &attributes);
    CHECK(made == 0 || (recorded() && made == ENOTSUP));
    if (made == 0) {
        CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
    }
    printf("%d\n", getpid());
    return 0;
}

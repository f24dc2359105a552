/* Eight threads: mutexes, condition variables, thread-local storage, return values. */
#include "guest.h"
#include <pthread.h>

enum { THREADS = 8, ROUNDS = 100 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static __thread uint64_t local;
static uint64_t total, order;
static int turn;

static void *run(void *argument) {
    int number = (int)(intptr_t)argument;
    CHECK(local == 0);
    for (int i = 0; i < ROUNDS; i++) {
        local += (uint64_t)number;
        CHECK(pthread_mutex_lock(&mutex) == 0);
        total++;
        order = order * 31 + (uint64_t)number;
        CHECK(pthread_mutex_unlock(&mutex) == 0);
    }
    CHECK(pthread_mutex_lock(&mutex) == 0);
    while (turn != number) {
        CHECK(pthread_cond_wait(&changed, &mutex) == 0);
    }
    turn++;
    CHECK(pthread_cond_broadcast(&changed) == 0);
    CHECK(pthread_mutex_unlock(&mutex) == 0);
    return (void *)(uintptr_t)local;
}

int main(void) {
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    }
    for (uintptr_t i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0);
        CHECK((uintptr_t)result == i * ROUNDS);
    }
    CHECK(total == THREADS * ROUNDS && turn == THREADS && local == 0);
    printf("order %016llx\n", (unsigned long long)order);
    return 0;
}

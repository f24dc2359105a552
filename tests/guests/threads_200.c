// guest: heavy
/* Two hundred threads at once, each with its own work, lock and end. */
#include "guest.h"
#include <pthread.h>

enum { COUNT = 200 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int here;
static __thread uint64_t own;

static void *run(void *argument) {
    own = (uint64_t)(uintptr_t)argument * 3;
    pthread_mutex_lock(&mutex);
    if (++here == COUNT) {
        pthread_cond_broadcast(&changed);
    }
    while (here < COUNT) {
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    if ((uintptr_t)argument % 2) {
        pthread_exit((void *)(uintptr_t)own);
    }
    return (void *)(uintptr_t)own;
}

int main(void) {
    static pthread_t threads[COUNT];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    CHECK(pthread_attr_setstacksize(&attributes, 65536) == 0);
    for (uintptr_t i = 0; i < COUNT; i++) {
        CHECK(pthread_create(&threads[i], &attributes, run, (void *)i) == 0);
    }
    uint64_t sum = 0;
    for (uintptr_t i = 0; i < COUNT; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0 && (uintptr_t)result == i * 3);
        sum += (uintptr_t)result;
    }
    printf("%llu in %d\n", (unsigned long long)sum, getpid());
    return 0;
}

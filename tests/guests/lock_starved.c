/* A thread takes and drops a lock all the time, and makes calls only while it holds the lock; other
 * threads need the lock, too. Whenever a turn ends at a call, the lock is taken. */
// guest: special cflags=-O1,-pthread
#include "guest.h"
#include <pthread.h>
#include <time.h>

enum { WAITERS = 2, TIMES = 10 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int had[WAITERS];

static int all_had(void) {
    for (int i = 0; i < WAITERS; i++) {
        if (had[i] < TIMES) {
            return 0;
        }
    }
    return 1;
}

static void *waiter(void *arg) {
    int me = (int)(long)arg;
    for (int i = 0; i < TIMES; i++) {
        pthread_mutex_lock(&lock);
        had[me]++;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[WAITERS];
    for (long i = 0; i < WAITERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, waiter, (void *)i) == 0);
    }
    for (int done = 0; !done;) {
        pthread_mutex_lock(&lock);
        struct timespec now;
        for (int i = 0; i < 3; i++) {
            CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
        }
        done = all_had();
        pthread_mutex_unlock(&lock);
    }
    for (int i = 0; i < WAITERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    puts("all had the lock");
    return 0;
}

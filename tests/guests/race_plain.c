// guest: special
/* A race between instructions: two threads add to a counter without a lock, and without a system call on the way. The loops take some
 * microseconds. Status 1 if an update was lost. */
#include "guest.h"
#include <pthread.h>

enum { TURNS = 2000 };

static volatile int counter;

static void *add(void *unused) {
    (void)unused;
    for (int i = 0; i < TURNS; i++) {
        int value = counter;
        counter = value + 1;
    }
    return NULL;
}

int main(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, add, NULL) == 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    printf("%d\n", counter);
    return counter != 2 * TURNS;
}

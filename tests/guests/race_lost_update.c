// guest: special
/* A real race: two threads read a counter, do something, and write it back. Status 1 if an update was lost. */
#include "guest.h"
#include <pthread.h>

static volatile int counter;

static void *add(void *unused) {
    (void)unused;
    for (int i = 0; i < 10; i++) {
        int value = counter;
        CHECK(getppid() >= 0);
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
    return counter != 20;
}

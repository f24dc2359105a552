// guest: exit=11
/* exit_group from one thread while others block in the kernel, sleep, and hold locks. */
#include "guest.h"
#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t barrier;

static void *wait_somehow(void *argument) {
    int ends[2];
    char byte;
    pthread_barrier_wait(&barrier);
    switch ((intptr_t)argument) {
    case 0:
        CHECK(pipe(ends) == 0);
        (void)!read(ends[0], &byte, 1);
        break;
    case 1:
        sleep_ms(100000);
        break;
    case 2:
        pthread_mutex_lock(&mutex);
        break;
    default:
        pause();
        break;
    }
    return NULL;
}

int main(void) {
    pthread_t thread;
    CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_barrier_init(&barrier, NULL, 5) == 0);
    for (intptr_t i = 0; i < 4; i++) {
        CHECK(pthread_create(&thread, NULL, wait_somehow, (void *)i) == 0);
    }
    pthread_barrier_wait(&barrier);
    sleep_ms(5);
    printf("%d leaves with 11\n", getpid());
    exit(11);
}

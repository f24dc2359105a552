// Threads with names; one writes what others only read
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

volatile int shared;
volatile int done;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t barrier;
__thread int own = 7;

__attribute__((noinline)) static void store(int value) {
    shared = value; // store
}

static void *writer(void *arg) {
    pthread_setname_np(pthread_self(), "writer");
    own = 11;
    pthread_barrier_wait(&barrier);
    pthread_mutex_lock(&lock);
    store(*(int *)arg);
    pthread_mutex_unlock(&lock);
    pthread_barrier_wait(&barrier);
    // The thread is still there when main looks, whatever the scheduler did.
    while (!done)
        usleep(500);
    return NULL;
}

static void *sleeper(void *arg) {
    (void)arg;
    pthread_setname_np(pthread_self(), "sleeper");
    own = 12;
    pthread_barrier_wait(&barrier);
    while (!done)
        usleep(500);
    return NULL;
}

int main(void) {
    pthread_t a, b;
    int value = 42;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&b, NULL, sleeper, NULL);
    pthread_barrier_wait(&barrier);
    pthread_create(&a, NULL, writer, &value);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    printf("shared %d\n", shared); // look
    done = 1;
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    return 0;
}

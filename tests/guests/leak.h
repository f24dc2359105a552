/* A program that leaks memory, and holds other memory that it does not leak, for both leak checkers. */
#include "guest.h"
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *keep(void *unused) {
    char *volatile kept = malloc(77);
    memset(kept, 1, 77);
    pthread_mutex_lock(&lock); /* held to the end: what only this stack points to is no leak */
    free(kept);
    return unused;
}

int main(void) {
    pthread_t thread;
    CHECK(pthread_mutex_lock(&lock) == 0);
    CHECK(pthread_create(&thread, NULL, keep, NULL) == 0);
    sleep_ms(1);
    char *volatile lost = malloc(1234);
    memset(lost, 1, 1234);
    lost = NULL;
    puts("ends");
    return 0;
}

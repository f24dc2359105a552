// guest: exit=6
/* Threads leave in different ways: detached, cancelled, by pthread_exit, and the first thread before the others. */
#include "guest.h"
#include <pthread.h>
#include <semaphore.h>

static sem_t done;
static pthread_t main_thread;

static void *detached(void *argument) {
    (void)argument;
    CHECK(sem_post(&done) == 0);
    pthread_exit(NULL);
}

static void *blocked(void *argument) {
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0);
    CHECK(sem_post(&done) == 0);
    (void)!read(ends[0], &byte, 1); /* a cancellation point */
    return argument;
}

static void *last(void *argument) {
    (void)argument;
    CHECK(pthread_join(main_thread, NULL) == 0);
    dprintf(1, "the first thread is gone, %d goes on as %ld\n", getpid(), (long)syscall(SYS_gettid));
    sleep_ms(2);
    exit(6);
}

int main(void) {
    pthread_t thread;
    CHECK(sem_init(&done, 0, 0) == 0);
    for (int i = 0; i < 10; i++) {
        CHECK(pthread_create(&thread, NULL, detached, NULL) == 0 && pthread_detach(thread) == 0);
        while (sem_wait(&done) != 0) {
            CHECK(errno == EINTR);
        }
    }
    for (int i = 0; i < 3; i++) {
        void *result;
        CHECK(pthread_create(&thread, NULL, blocked, NULL) == 0);
        while (sem_wait(&done) != 0) {
            CHECK(errno == EINTR);
        }
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    main_thread = pthread_self();
    CHECK(pthread_create(&thread, NULL, last, NULL) == 0);
    pthread_exit(NULL);
}

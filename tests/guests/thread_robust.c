/* A thread dies holding a robust mutex, a process dies holding a shared one: the kernel tells the next owner. */
#include "guest.h"
#include <pthread.h>
#include <sys/mman.h>

static void *die_holding(void *argument) {
    CHECK(pthread_mutex_lock(argument) == 0);
    return NULL;
}

int main(void) {
    pthread_mutex_t *mutexes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(mutexes != MAP_FAILED);
    pthread_mutexattr_t attributes;
    CHECK(pthread_mutexattr_init(&attributes) == 0);
    CHECK(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(&mutexes[0], &attributes) == 0);
    CHECK(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutex_init(&mutexes[1], &attributes) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, die_holding, &mutexes[0]) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(pthread_mutex_lock(&mutexes[0]) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&mutexes[0]) == 0 && pthread_mutex_unlock(&mutexes[0]) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(pthread_mutex_lock(&mutexes[1]) == 0);
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(pthread_mutex_lock(&mutexes[1]) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&mutexes[1]) == 0 && pthread_mutex_unlock(&mutexes[1]) == 0);
    printf("%d\n", getpid());
    return 0;
}

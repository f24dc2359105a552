// guest: cflags=-lrt
/* POSIX shared memory with semaphores, mutexes and conditions in it, used by four processes; one of them dies with
 * the mutex held. */
#include "guest.h"
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

struct shared {
    sem_t turn[4];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_barrier_t barrier;
    pthread_rwlock_t lock;
    int count, deaths;
    uint64_t sum;
};

int main(void) {
    char name[64];
    snprintf(name, sizeof name, "/guest-shm-%d", getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && ftruncate(fd, sizeof(struct shared)) == 0);
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(shared != MAP_FAILED);
    pthread_mutexattr_t mutex;
    pthread_mutexattr_init(&mutex);
    CHECK(pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(&shared->mutex, &mutex) == 0);
    pthread_condattr_t condition;
    pthread_condattr_init(&condition);
    CHECK(pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_cond_init(&shared->changed, &condition) == 0);
    pthread_barrierattr_t barrier;
    pthread_barrierattr_init(&barrier);
    CHECK(pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_barrier_init(&shared->barrier, &barrier, 4) == 0);
    pthread_rwlockattr_t lock;
    pthread_rwlockattr_init(&lock);
    CHECK(pthread_rwlockattr_setpshared(&lock, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_rwlock_init(&shared->lock, &lock) == 0);
    for (int i = 0; i < 4; i++) {
        CHECK(sem_init(&shared->turn[i], 1, i == 0) == 0);
    }
    pid_t children[4];
    for (int n = 0; n < 4; n++) {
        children[n] = fork();
        CHECK(children[n] >= 0);
        if (children[n] == 0) {
            CHECK(munmap(shared, sizeof *shared) == 0);
            int own = shm_open(name, O_RDWR, 0);
            CHECK(own >= 0);
            shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
            CHECK(shared != MAP_FAILED);
            pthread_barrier_wait(&shared->barrier);
            for (int i = 0; i < 10; i++) { /* in turn */
                CHECK(sem_wait(&shared->turn[n]) == 0);
                CHECK(shared->count == i * 4 + n);
                shared->count++;
                shared->sum = shared->sum * 31 + (uint64_t)n;
                CHECK(sem_post(&shared->turn[(n + 1) % 4]) == 0);
            }
            CHECK(pthread_rwlock_rdlock(&shared->lock) == 0 && pthread_rwlock_unlock(&shared->lock) == 0);
            int got = pthread_mutex_lock(&shared->mutex);
            if (got == EOWNERDEAD) {
                CHECK(pthread_mutex_consistent(&shared->mutex) == 0);
            } else {
                CHECK(got == 0);
            }
            shared->deaths++;
            pthread_cond_broadcast(&shared->changed);
            if (n == 2) {
                _exit(2); /* holding it */
            }
            CHECK(pthread_mutex_unlock(&shared->mutex) == 0);
            _exit(n);
        }
    }
    int got = pthread_mutex_lock(&shared->mutex);
    while (shared->deaths < 4) {
        if (got == EOWNERDEAD) {
            CHECK(pthread_mutex_consistent(&shared->mutex) == 0);
        } else {
            CHECK(got == 0);
        }
        got = pthread_cond_wait(&shared->changed, &shared->mutex);
    }
    for (int n = 0; n < 4; n++) {
        expect_exit(children[n], n);
    }
    CHECK(shared->count == 40 && shm_unlink(name) == 0);
    sem_t *named = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    CHECK(named != SEM_FAILED);
    children[0] = fork();
    CHECK(children[0] >= 0);
    if (children[0] == 0) {
        CHECK(sem_post(named) == 0);
        _exit(0);
    }
    CHECK(sem_wait(named) == 0 && sem_unlink(name) == 0);
    expect_exit(children[0], 0);
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_nsec += limit.tv_nsec < 990000000 ? 2000000 : 0;
    CHECK(sem_timedwait(named, &limit) == -1 && errno == ETIMEDOUT);
    printf("%llx\n", (unsigned long long)shared->sum);
    return 0;
}

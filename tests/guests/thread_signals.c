/* Signals sent to particular threads, and one to the process that only one thread accepts. */
#include "guest.h"
#include <pthread.h>

static __thread volatile sig_atomic_t mine;
static volatile sig_atomic_t all;
static pthread_barrier_t barrier;

static void on_usr(int signal) {
    (void)signal;
    mine++;
    all++;
}

static void *run(void *argument) {
    sigset_t set, open;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, &open) == 0);
    sigdelset(&open, SIGUSR1);
    pthread_barrier_wait(&barrier);
    while (mine < 3) {
        sigsuspend(&open);
    }
    return argument;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_usr;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && pthread_barrier_init(&barrier, NULL, 4) == 0);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    }
    pthread_barrier_wait(&barrier);
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 3; i++) {
            int before = all;
            CHECK(pthread_kill(threads[i], SIGUSR1) == 0);
            while (all == before) {
                sleep_ms(1);
            }
        }
    }
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(all == 9 && mine == 0);
    printf("%d\n", getpid());
    return 0;
}

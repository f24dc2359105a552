// guest: exit=17
/* Threads end, start others, and make calls while one of them executes a program; several times over. */
#include "guest.h"
#include <pthread.h>

static char *self;
static int rounds;

static void *come_and_go(void *argument) {
    for (int i = 0; i < 3; i++) {
        (void)getppid();
    }
    if ((uintptr_t)argument > 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, come_and_go, (void *)((uintptr_t)argument - 1)) == 0) {
            pthread_detach(thread);
        }
    }
    return NULL;
}

static void *execute(void *argument) {
    char left[16];
    (void)argument;
    snprintf(left, sizeof left, "%d", rounds - 1);
    execl("/proc/thread-self/exe", self, left, NULL);
    CHECK(!"exec failed");
}

int main(int argc, char **argv) {
    rounds = argc > 1 ? atoi(argv[1]) : 6;
    self = argv[0];
    dprintf(1, "%d in %d\n", rounds, getpid());
    if (rounds == 0) {
        return 17;
    }
    pthread_t thread;
    for (uintptr_t i = 0; i < 4; i++) {
        CHECK(pthread_create(&thread, NULL, come_and_go, (void *)i) == 0);
    }
    if (rounds % 3 == 0) {
        execute(NULL); /* the first thread itself */
    }
    CHECK(pthread_create(&thread, NULL, execute, NULL) == 0);
    if (rounds % 3 == 1) {
        pthread_exit(NULL); /* the first thread is gone already, or goes meanwhile */
    }
    come_and_go((void *)5);
    pthread_join(thread, NULL);
    return 1;
}

// guest: special
/* A real race: a thread uses data that its creator stores only after creating the thread. Status 1 if
 * the thread was too early. */
#include "guest.h"
#include <pthread.h>

static volatile int ready;

static void *use(void *unused) {
    (void)unused;
    CHECK(getppid() >= 0);
    return ready ? NULL : (void *)1;
}

int main(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use, NULL) == 0);
    ready = getpid();
    void *early = NULL;
    CHECK(pthread_join(thread, &early) == 0);
    printf("%s\n", early ? "too early" : "in time");
    return early != NULL;
}

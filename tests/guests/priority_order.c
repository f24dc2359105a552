/* Of two threads that are woken together, the one with the lower nice value runs first (rr's scheduler
 * guarantees this; without rr the machine may have a CPU for each). */
#include "guest.h"
#include <pthread.h>
#include <sys/resource.h>

static int gate[2];
static int order[2];
static volatile int passed;

static void *wait_at_gate(void *nice) {
    CHECK(setpriority(PRIO_PROCESS, (id_t)gettid(), (int)(intptr_t)nice) == 0);
    char byte;
    read_all(gate[0], &byte, 1);
    for (int i = 0; i < 10; i++) {
        CHECK(getppid() >= 0);
    }
    order[__atomic_fetch_add(&passed, 1, __ATOMIC_SEQ_CST)] = (int)(intptr_t)nice;
    return NULL;
}

int main(void) {
    CHECK(pipe(gate) == 0);
    pthread_t threads[2];
    /* The first thread is the less important one. */
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, wait_at_gate, (void *)(intptr_t)(i == 0 ? 9 : 4)) == 0);
    }
    sleep_ms(20);
    write_all(gate[1], "go", 2);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    printf("%d before %d\n", order[0], order[1]);
    CHECK(!recorded() || (order[0] == 4 && order[1] == 9));
    return 0;
}

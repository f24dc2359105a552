/* Threads that hand over to each other by spinning, and count meanwhile: in a register, in memory, and
 * in a loop with an inner one. Only these counters tell one pass of these loops from the next. */
// guest: special cflags=-O1,-pthread
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>

enum { HANDS = 9 };

static atomic_int turn;
static uint64_t counts[2];

static int waits(int me) {
    return atomic_load_explicit(&turn, memory_order_acquire) != me;
}

static void *player(void *arg) {
    int me = (int)(long)arg;
    for (int i = 0; i < HANDS; i++) {
        uint64_t in_register = 0;
        volatile uint64_t in_memory = 0;
        switch (i % 3) {
        case 0:
            while (waits(me)) {
                in_register++;
            }
            break;
        case 1:
            while (waits(me)) {
                in_memory++;
            }
            break;
        default:
            while (waits(me)) {
                for (volatile int n = 0; n < 100; n++) {
                }
                in_memory++;
            }
        }
        counts[me] += in_register + in_memory;
        atomic_store(&turn, 1 - me);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[2];
    for (long i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, player, (void *)i) == 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    printf("%016llx\n", (unsigned long long)checksum(counts, sizeof counts));
    return 0;
}

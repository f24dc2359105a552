// guest: heavy
/* Threads that hand over to each other by spinning on a word: in loops that write nothing, in a loop
 * that writes the value that is there already, and in a loop that waits for a sleeping process. */
// guest: cflags=-pthread
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { THREADS = 3, HANDS = 30 };

static atomic_int turn;
static volatile int spinning;
static pthread_spinlock_t lock;
static uint64_t all[THREADS];

static void *player(void *arg) {
    int me = (int)(long)arg;
    uint64_t seed = fresh_seed();
    for (int i = 0; i < HANDS; i++) {
        switch (i % 3) {
        case 0:
            while (atomic_load_explicit(&turn, memory_order_acquire) != me) {
            }
            break;
        case 1:
            while (atomic_load_explicit(&turn, memory_order_acquire) != me) {
                __builtin_ia32_pause();
            }
            break;
        default:
            while (atomic_load_explicit(&turn, memory_order_acquire) != me) {
                spinning = 1;
            }
        }
        all[me] += next_random(&seed);
        CHECK(pthread_spin_lock(&lock) == 0);
        all[(me + 1) % THREADS] ^= all[me];
        CHECK(pthread_spin_unlock(&lock) == 0);
        atomic_store(&turn, (me + 1) % THREADS);
    }
    return NULL;
}

int main(void) {
    CHECK(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE) == 0);
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, player, (void *)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    atomic_int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(word != MAP_FAILED);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sleep_ms(50);
        atomic_store(word, 7);
        _exit(0);
    }
    while (atomic_load_explicit(word, memory_order_relaxed) == 0) {
    }
    expect_exit(child, 0);
    printf("%016llx\n", (unsigned long long)checksum(all, sizeof all));
    return 0;
}

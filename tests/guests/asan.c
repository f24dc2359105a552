// guest: cflags=-fsanitize=address,-g
/* AddressSanitizer reserves terabytes of shadow memory, and touches a page of it for each 32 KiB of
 * memory. Its leak search traces the process's own threads. */
#include "guest.h"
#include <pthread.h>

static void *work(void *argument) {
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    uint64_t sum = 0;
    for (int i = 0; i < 30; i++) {
        size_t size = 1 + next_random(&seed) % 100000;
        unsigned char *block = malloc(size);
        CHECK(block != NULL);
        memset(block, i, size);
        sum += checksum(block, size);
        free(block);
    }
    getppid();
    return (void *)(uintptr_t)(sum | 1);
}

int main(void) {
    uint64_t seed = fresh_seed();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, (void *)(uintptr_t)seed) == 0);
    void *here = work((void *)(uintptr_t)(seed + 2)), *there;
    CHECK(pthread_join(thread, &there) == 0);
    printf("%p %p\n", here, there);
    return 0;
}

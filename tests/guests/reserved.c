/* Address space in the way of Go, Java and sanitizers: terabytes are reserved, and very little of it is
 * used. */
#include "guest.h"
#include <sys/mman.h>

#define SIZE (4ul << 40)
#define ARENA (64ul << 20)

int main(void) {
    uint64_t seed = fresh_seed();
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    unsigned char *nothing = mmap(NULL, SIZE, PROT_NONE, flags, -1, 0);
    unsigned char *heap = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, -1, 0);
    CHECK(nothing != MAP_FAILED && heap != MAP_FAILED);
    uint64_t sum = 0;
    for (size_t i = 0; i < 8; i++) {
        /* An arena in the reserved space, used here and there. */
        unsigned char *arena = nothing + i * (SIZE / 8) + ARENA * (next_random(&seed) % 100);
        CHECK(mprotect(arena, ARENA, PROT_READ | PROT_WRITE) == 0);
        for (int k = 0; k < 5; k++) {
            size_t page = next_random(&seed) % (ARENA / 4096) * 4096, far = next_random(&seed) % (SIZE / 4096) * 4096;
            fill_random(arena + page, 500, &seed);
            fill_random(heap + far, 500, &seed);
            sum ^= checksum(arena + page, 4096) ^ checksum(heap + far, 4096);
        }
        getppid();
        if (i % 3 == 2) {
            /* Given back, as a collector does. */
            CHECK(mmap(arena, ARENA, PROT_NONE, flags | MAP_FIXED, -1, 0) == arena);
            CHECK(madvise(heap, SIZE / 2, MADV_DONTNEED) == 0);
            getppid();
        }
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        heap[SIZE - 1] = 1;
        getppid();
        _exit(heap[SIZE - 1]);
    }
    expect_exit(child, 1);
    CHECK(heap[SIZE - 1] == 0);
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}

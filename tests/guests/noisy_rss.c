// guest: special
/* Writes noise to more memory than a small disk takes, and computes for a second. */
#include "guest.h"
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { BYTES = 48 << 20 };

int main(void) {
    uint64_t *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    uint64_t state = 88172645463325252;
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        for (unsigned i = 0; i < BYTES / 8; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            memory[i] = state;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - begin.tv_sec + (now.tv_nsec - begin.tv_nsec) * 1e-9 < 1);
    printf("done\n");
    return 0;
}

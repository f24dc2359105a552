/* 48 MiB of random pages. Some are changed between events, and a part is given back. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    uint64_t seed = fresh_seed();
    size_t size = 48 << 20;
    unsigned char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    fill_random(area, size, &seed);
    for (int i = 0; i < 10; i++) {
        for (int k = 0; k < 100; k++) {
            area[next_random(&seed) % size]++;
        }
        getppid();
    }
    CHECK(munmap(area + size / 2, size / 4) == 0);
    getppid();
    printf("%016llx\n", (unsigned long long)checksum(area, size / 2));
    return 0;
}

/* Pages without access rights still have contents, and keep them. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    uint64_t seed = fresh_seed();
    size_t size = 30 * 4096;
    unsigned char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    fill_random(area, size, &seed);
    uint64_t sum = checksum(area, size);
    for (size_t i = 0; i < size; i += 8192) {
        CHECK(mprotect(area + i, 4096, PROT_NONE) == 0);
    }
    for (int i = 0; i < 10; i++) {
        getppid();
    }
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(write(ends[1], area, 10) == -1 && errno == EFAULT);
    CHECK(mprotect(area, size, PROT_READ) == 0);
    CHECK(checksum(area, size) == sum);
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}

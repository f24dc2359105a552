/* mremap: to a fixed place, without unmapping the old one, of shared memory, over another mapping. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    uint64_t seed = fresh_seed();
    size_t size = 20 * 4096;
    unsigned char *a = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *b = mmap(NULL, 2 * size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(a != MAP_FAILED && b != MAP_FAILED);
    fill_random(a, size, &seed);
    uint64_t sum = checksum(a, size);
    CHECK(mremap(a, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, b) == b);
    CHECK(checksum(b, size) == sum);
    CHECK(mremap(b, size, size + 4096, 0) == MAP_FAILED && errno == ENOMEM); /* the rest of b is in the way */
    unsigned char *c = mremap(b, size, 4 * size, MREMAP_MAYMOVE);
    CHECK(c != MAP_FAILED && checksum(c, size) == sum);
    unsigned char *d = mremap(c, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    if (d != MAP_FAILED) { /* from Linux 5.7 on */
        CHECK(checksum(d, size) == sum);
        for (size_t i = 0; i < size; i += 4096) {
            CHECK(c[i] == 0);
        }
        memset(c, 3, size);
        CHECK(checksum(d, size) == sum);
    }
    unsigned char *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    fill_random(shared, size, &seed);
    unsigned char *alias = mremap(shared, 0, size, MREMAP_MAYMOVE); /* old size 0: the same pages twice */
    CHECK(alias != MAP_FAILED);
    shared[5000] = 1;
    CHECK(alias[5000] == 1);
    alias[5000] = 2;
    CHECK(shared[5000] == 2);
    CHECK(munmap(shared, size) == 0);
    printf("%p %p %016llx\n", (void *)c, (void *)alias, (unsigned long long)checksum(alias, size));
    return 0;
}

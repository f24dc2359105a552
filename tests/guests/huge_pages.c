/* Transparent huge pages, requested by madvise, and made at once where the kernel can (MADV_COLLAPSE):
 * written here and there between events, shared with a child that also writes, split by mprotect,
 * partly given back. Also pages of the kernel's pool (MAP_HUGETLB), if there are any; a recording may
 * report that there are none. */
#include "guest.h"
#include <sys/mman.h>

#define HUGE (2ul << 20)
#define PARTS 3

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static void touch(unsigned char *area, size_t size, uint64_t *seed) {
    for (int i = 0; i < 40; i++) {
        area[next_random(seed) % size]++;
    }
    getppid();
}

int main(void) {
    uint64_t seed = fresh_seed();
    unsigned char *all = mmap(NULL, (PARTS + 1) * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(all != MAP_FAILED);
    unsigned char *area = (unsigned char *)(((uintptr_t)all + HUGE - 1) & ~(HUGE - 1));
    size_t size = PARTS * HUGE;
    /* A kernel without huge pages returns EINVAL; the rest is the same. */
    madvise(area, size, MADV_HUGEPAGE);
    fill_random(area, HUGE, &seed);
    area[HUGE + 12345] = 1;
    touch(area, size, &seed);
    madvise(area + 2 * HUGE, HUGE, MADV_COLLAPSE);
    touch(area, size, &seed);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        seed ^= 77;
        touch(area, size, &seed);
        touch(area, size, &seed);
        printf("child %016llx\n", (unsigned long long)checksum(area, size));
        fflush(stdout);
        _exit(3);
    }
    touch(area, size, &seed);
    expect_exit(child, 3);
    CHECK(mprotect(area + HUGE / 2, 8192, PROT_READ) == 0);
    area[HUGE / 2 - 1]++;
    area[HUGE / 2 + 8192]++;
    getppid();
    CHECK(madvise(area + HUGE / 4, 65536, MADV_DONTNEED) == 0);
    CHECK(area[HUGE / 4] == 0 && area[HUGE / 4 + 65535] == 0);
    CHECK(munmap(area + HUGE + HUGE / 2, HUGE / 2) == 0);
    getppid();
    uint64_t sum = checksum(area, HUGE + HUGE / 2) ^ checksum(area + 2 * HUGE, HUGE);
    printf("%016llx\n", (unsigned long long)sum);
    unsigned char *pool = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (pool != MAP_FAILED) {
        touch(pool, HUGE, &seed);
        touch(pool, HUGE, &seed);
        printf("%016llx\n", (unsigned long long)checksum(pool, HUGE));
        CHECK(munmap(pool, HUGE) == 0);
    }
    return 0;
}

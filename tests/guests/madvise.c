/* madvise: DONTNEED discards contents, WIPEONFORK and DONTFORK change what a child gets. They must
 * affect only children: a frozen fork does not have these pages, but the checkpoint must. */
#include "guest.h"
#include <sys/mman.h>

enum { SIZE = 16 * 4096 };

static unsigned char *area(uint64_t *seed) {
    unsigned char *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    fill_random(at, SIZE, seed);
    return at;
}

int main(void) {
    uint64_t seed = fresh_seed();
    unsigned char *forget = area(&seed), *wipe = area(&seed), *keep = area(&seed), *lazy = area(&seed);
    uint64_t wipe_sum = checksum(wipe, SIZE), keep_sum = checksum(keep, SIZE);
    CHECK(madvise(forget + 4096, 4096, MADV_DONTNEED) == 0);
    for (int i = 0; i < 4096; i++) {
        CHECK(forget[4096 + i] == 0);
    }
    CHECK(madvise(wipe, SIZE, MADV_WIPEONFORK) == 0);
    CHECK(madvise(keep, SIZE, MADV_DONTFORK) == 0);
    CHECK(madvise(lazy, SIZE, MADV_WILLNEED) == 0 && madvise(lazy, SIZE, MADV_SEQUENTIAL) == 0);
    CHECK(madvise(lazy, SIZE, MADV_NOHUGEPAGE) == 0);
    for (int i = 0; i < 10; i++) {
        getppid(); /* events with these ranges present */
    }
    for (int round = 0; round < 2; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (int i = 0; i < SIZE; i++) {
                CHECK(wipe[i] == 0);
            }
            memset(wipe, 5, SIZE);
            unsigned char vec[16];
            CHECK(mincore(keep, SIZE, vec) == -1 && errno == ENOMEM);
            getppid();
            getppid();
            _exit(0);
        }
        expect_exit(child, 0);
        CHECK(checksum(wipe, SIZE) == wipe_sum && checksum(keep, SIZE) == keep_sum);
    }
    CHECK(madvise(wipe, SIZE, MADV_KEEPONFORK) == 0 && madvise(keep, SIZE, MADV_DOFORK) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(checksum(wipe, SIZE) == wipe_sum && checksum(keep, SIZE) == keep_sum);
        _exit(0);
    }
    expect_exit(child, 0);
    int fd = open("/proc/self/exe", O_RDONLY);
    unsigned char *file = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(fd >= 0 && file != MAP_FAILED && file[1] == 'E');
    file[1] = 'X';
    CHECK(madvise(file, 4096, MADV_DONTNEED) == 0);
    CHECK(file[1] == 'E'); /* the file's content again */
    printf("%016llx %016llx\n", (unsigned long long)wipe_sum, (unsigned long long)keep_sum);
    return 0;
}

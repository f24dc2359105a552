/* A file mapped shared: by two processes, through two mappings, and beside read and write. */
#include "guest.h"
#include <sys/mman.h>

enum { SIZE = 5 * 4096 };

int main(void) {
    uint64_t seed = fresh_seed();
    int fd = open("shared", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, SIZE) == 0);
    unsigned char *a = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *b = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096);
    CHECK(a != MAP_FAILED && b != MAP_FAILED);
    fill_random(a, SIZE, &seed);
    CHECK(memcmp(a + 4096, b, 4096) == 0);
    static unsigned char copy[SIZE];
    CHECK(pread(fd, copy, SIZE, 0) == SIZE && memcmp(a, copy, SIZE) == 0);
    CHECK(pwrite(fd, "written", 7, 4100) == 7);
    CHECK(memcmp(a + 4100, "written", 7) == 0 && memcmp(b + 4, "written", 7) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        a[3 * 4096] = 0xab;
        unsigned char *own = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, open("shared", O_RDWR), 0);
        CHECK(own != MAP_FAILED && own[3 * 4096] == 0xab);
        own[3 * 4096 + 1] = 0xcd;
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(a[3 * 4096] == 0xab && a[3 * 4096 + 1] == 0xcd);
    CHECK(msync(a, SIZE, MS_SYNC) == 0);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(write(fd, a + 8192, 100) == 100); /* from one part of the mapping into another */
    CHECK(memcmp(a, a + 8192, 100) == 0);
    printf("%016llx\n", (unsigned long long)checksum(a, SIZE));
    CHECK(munmap(a, SIZE) == 0 && unlink("shared") == 0);
    printf("%016llx\n", (unsigned long long)checksum(b, 4096));
    return 0;
}

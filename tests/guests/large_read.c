// guest: heavy
/* A 64 MiB file read in one call, in pieces of odd sizes, and by pread and preadv; ftruncate and sparse
 * holes. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/uio.h>

/* Large buffers that are only partly mapped: only the size of the data counts, not the size of the
 * buffer. */
static void partly_there(int fd) {
    enum { THERE = 8192, ROOM = 128 << 10, SIZE = 3000 };
    char *buffer = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *rest = buffer + ROOM - THERE;
    CHECK(buffer != MAP_FAILED && mprotect(buffer, THERE, PROT_READ | PROT_WRITE) == 0);
    for (int round = 0; round < 4; round++) {
        CHECK(ftruncate(fd, SIZE) == 0 && pwrite(fd, "some", 4, SIZE - 4) == 4);
        CHECK(pread(fd, buffer, ROOM, 0) == SIZE && memcmp(buffer + SIZE - 4, "some", 4) == 0);
        CHECK(pread(fd, buffer, ROOM, 1) == SIZE - 1);
        CHECK(pread(fd, buffer, ROOM, SIZE) == 0);
        /* More data than fits: the call reads as much as fits, then nothing. */
        CHECK(ftruncate(fd, 3 * THERE) == 0 && pwrite(fd, "more", 4, THERE - 4) == 4);
        CHECK(pread(fd, buffer, ROOM, 0) == THERE && memcmp(buffer + THERE - 4, "more", 4) == 0);
        CHECK(pread(fd, rest, ROOM, 0) == -1 && errno == EFAULT);
        printf("%016llx\n", (unsigned long long)checksum(buffer, THERE));
        memset(buffer, round, THERE);
    }
    munmap(buffer, ROOM);
}

int main(void) {
    size_t size = 64 << 20;
    unsigned char *data = malloc(size), *back = malloc(size);
    CHECK(data && back);
    uint64_t seed = fresh_seed();
    for (size_t i = 0; i < size; i += 65536) { /* compressible, but not trivial */
        fill_random(data + i, 4096, &seed);
        memset(data + i + 4096, (int)(i >> 16), 61440);
    }
    int fd = open("large", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    write_all(fd, data, size);
    CHECK(unlink("large") == 0);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(read(fd, back, size) == (ssize_t)size);
    CHECK(memcmp(data, back, size) == 0);
    CHECK(lseek(fd, 1, SEEK_SET) == 1);
    size_t at = 1;
    while (at < size) {
        size_t length = 1000003;
        ssize_t n = read(fd, back, length);
        CHECK(n > 0 && memcmp(data + at, back, (size_t)n) == 0);
        at += (size_t)n;
    }
    CHECK(read(fd, back, 100) == 0);
    struct iovec parts[3] = {{back, 10}, {back + 100, 100000}, {back + 200000, 5}};
    CHECK(preadv(fd, parts, 3, 12345) == 100015);
    CHECK(memcmp(back + 100, data + 12355, 100000) == 0);
    CHECK(ftruncate(fd, 1000) == 0 && pread(fd, back, 2000, 0) == 1000);
    CHECK(ftruncate(fd, 100000) == 0 && pread(fd, back, 100, 50000) == 100 && back[5] == 0);
    printf("%016llx\n", (unsigned long long)checksum(data, 1 << 20));
    partly_there(fd);
    return 0;
}

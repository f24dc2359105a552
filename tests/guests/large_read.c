/* A 64 MiB file read in one call, in odd pieces, and by pread and preadv; ftruncate and sparse holes. */
#include "guest.h"
#include <sys/uio.h>

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
    return 0;
}

/* A file mapped private: pages written and not written, the tail behind the end, the same file twice, and a
 * new file under the old name. */
#include "guest.h"
#include <sys/mman.h>

enum { LENGTH = 10 * 4096 + 123 };

static void make(const char *path, uint64_t seed) {
    static unsigned char data[LENGTH];
    fill_random(data, LENGTH, &seed);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    write_all(fd, data, LENGTH);
    CHECK(close(fd) == 0);
}

static unsigned char *map(const char *path, int protection) {
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    unsigned char *at = mmap(NULL, LENGTH, protection, MAP_PRIVATE, fd, 0);
    CHECK(at != MAP_FAILED);
    close(fd);
    return at;
}

int main(void) {
    uint64_t seed = fresh_seed();
    make("one", seed);
    unsigned char *clean = map("one", PROT_READ), *dirty = map("one", PROT_READ | PROT_WRITE);
    uint64_t sum = checksum(clean, LENGTH);
    CHECK(checksum(dirty, LENGTH) == sum);
    for (int i = LENGTH; i < 11 * 4096; i++) {
        CHECK(clean[i] == 0);
    }
    dirty[5 * 4096] ^= 1;
    dirty[11 * 4096 - 1] = 9; /* behind the end, in the last page */
    CHECK(checksum(clean, LENGTH) == sum && checksum(dirty, LENGTH) != sum);
    make("two", seed + 2);
    CHECK(rename("two", "one") == 0);
    unsigned char *other = map("one", PROT_READ);
    CHECK(checksum(clean, LENGTH) == sum && checksum(other, LENGTH) != sum);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dirty[0] ^= 1;
        CHECK(checksum(clean, LENGTH) == sum);
        CHECK(mprotect(clean, LENGTH, PROT_READ | PROT_WRITE) == 0);
        clean[4096] ^= 1;
        getppid();
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(checksum(clean, LENGTH) == sum);
    CHECK(unlink("one") == 0);
    printf("%016llx %016llx %016llx\n", (unsigned long long)sum, (unsigned long long)checksum(dirty, LENGTH),
           (unsigned long long)checksum(other, LENGTH));
    return 0;
}

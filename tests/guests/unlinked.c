/* Files without a name: written, read, mapped and executed after they were unlinked. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    uint64_t seed = fresh_seed();
    static unsigned char block[3 * 4096 + 100];
    fill_random(block, sizeof block, &seed);
    int fd = open("gone", O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    CHECK(unlink("gone") == 0);
    write_all(fd, block, sizeof block);
    struct stat info;
    CHECK(fstat(fd, &info) == 0 && info.st_nlink == 0 && info.st_size == (off_t)sizeof block);
    unsigned char *map = mmap(NULL, sizeof block, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(map != MAP_FAILED);
    close(fd);
    CHECK(memcmp(map, block, sizeof block) == 0);
    printf("%016llx\n", (unsigned long long)checksum(map, sizeof block));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(memcmp(map, block, sizeof block) == 0);
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(munmap(map, sizeof block) == 0);
    CHECK(access("gone", F_OK) == -1 && errno == ENOENT);
    fd = open(".", O_TMPFILE | O_RDWR, 0600);
    if (fd >= 0) {
        write_all(fd, block, 5000);
        map = mmap(NULL, 5000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        CHECK(map != MAP_FAILED);
        map[0] ^= 1;
        CHECK(map[0] == (block[0] ^ 1) && map[4999] == block[4999]);
    }
    return 0;
}

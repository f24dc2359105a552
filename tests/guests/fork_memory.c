/* After a fork both sides change the same pages, and neither sees the other's changes. */
#include "guest.h"
#include <sys/mman.h>

enum { SIZE = 2 << 20 };

int main(void) {
    uint64_t seed = fresh_seed();
    unsigned char *area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    fill_random(area, SIZE, &seed);
    uint64_t before = checksum(area, SIZE);
    int to_child[2], to_parent[2];
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    char byte;
    if (child == 0) {
        for (size_t i = 0; i < SIZE; i += 8192) {
            area[i] ^= 0x55;
        }
        write_all(to_parent[1], "c", 1);
        read_all(to_child[0], &byte, 1);
        for (size_t i = 0; i < SIZE; i += 8192) {
            area[i] ^= 0x55;
        }
        CHECK(checksum(area, SIZE) == before);
        _exit(0);
    }
    read_all(to_parent[0], &byte, 1);
    CHECK(checksum(area, SIZE) == before);
    memset(area, 1, SIZE / 2);
    write_all(to_child[1], "p", 1);
    expect_exit(child, 0);
    printf("%016llx %016llx\n", (unsigned long long)before, (unsigned long long)checksum(area, SIZE));
    return 0;
}

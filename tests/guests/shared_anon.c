/* Shared anonymous memory between parent, child and grandchild, which take strict turns by pipes. */
#include "guest.h"
#include <sys/mman.h>

static volatile uint64_t *shared;

static void play(int in, int out, int rounds, uint64_t factor) {
    char byte;
    for (int i = 0; i < rounds; i++) {
        read_all(in, &byte, 1);
        shared[0] = shared[0] * factor + 1;
        shared[512 + (shared[0] & 511)]++;
        write_all(out, "x", 1);
    }
}

int main(void) {
    shared = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    shared[0] = fresh_seed();
    uint64_t expected = shared[0];
    int a[2], b[2], c[2];
    CHECK(pipe(a) == 0 && pipe(b) == 0 && pipe(c) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pid_t grandchild = fork();
        CHECK(grandchild >= 0);
        if (grandchild == 0) {
            play(b[0], c[1], 30, 7);
            _exit(0);
        }
        play(a[0], b[1], 30, 5);
        expect_exit(grandchild, 0);
        shared[1] = 77;
        CHECK(munmap((void *)shared, 4 * 4096) == 0);
        _exit(0);
    }
    char byte;
    for (int i = 0; i < 30; i++) {
        shared[0] = shared[0] * 3 + 1;
        expected = ((expected * 3 + 1) * 5 + 1) * 7 + 1;
        write_all(a[1], "x", 1);
        read_all(c[0], &byte, 1);
        CHECK(shared[0] == expected);
    }
    expect_exit(child, 0);
    CHECK(shared[1] == 77);
    printf("%016llx %016llx\n", (unsigned long long)shared[0],
           (unsigned long long)checksum((void *)shared, 4 * 4096));
    return 0;
}

/* 1 MiB through a pipe there and back at the same time: both sides block in reads and in writes. */
#include "guest.h"

enum { SIZE = 1 << 20 };
static unsigned char data[SIZE], back[SIZE];

int main(void) {
    int there[2], here[2];
    CHECK(pipe(there) == 0 && pipe(here) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(there[1]);
        close(here[0]);
        static unsigned char block[10000];
        ssize_t n;
        while ((n = read(there[0], block, sizeof block)) > 0) {
            for (ssize_t i = 0; i < n; i++) {
                block[i] ^= 0xff;
            }
            write_all(here[1], block, (size_t)n);
        }
        _exit(n == 0 ? 0 : 1);
    }
    pid_t writer = fork();
    CHECK(writer >= 0);
    uint64_t seed = 42;
    fill_random(data, SIZE, &seed);
    if (writer == 0) {
        close(here[0]);
        close(here[1]);
        write_all(there[1], data, SIZE); /* far more than the pipe holds: blocks in the middle */
        _exit(0);
    }
    close(there[0]);
    close(there[1]);
    close(here[1]);
    read_all(here[0], back, SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        CHECK((data[i] ^ back[i]) == 0xff);
    }
    char byte;
    CHECK(read(here[0], &byte, 1) == 0);
    expect_exit(writer, 0);
    expect_exit(child, 0);
    printf("%016llx\n", (unsigned long long)checksum(back, SIZE));
    return 0;
}

/* Writes at one site through one descriptor, which is first a pipe that the write must wait for, then a
 * mapped file, then the standard output: knowledge about one must not be used for the next. */
#include "guest.h"
#include <sys/mman.h>

enum { FD = 10, ROUNDS = 12, MUCH = 100000, LITTLE = 64 };

static char data[MUCH];

static __attribute__((noinline)) long put(long len) {
    return syscall(SYS_write, (long)FD, (long)data, len);
}

int main(void) {
    int pair[2], status;
    CHECK(pipe(pair) == 0);
    fflush(stdout);
    pid_t reader = fork();
    CHECK(reader >= 0);
    if (reader == 0) {
        static char got[MUCH];
        long all = 0, n;
        close(pair[1]);
        while ((n = read(pair[0], got, sizeof got)) > 0) {
            all += n;
        }
        _exit(n == 0 && all == (long)ROUNDS * MUCH ? 3 : 4);
    }
    close(pair[0]);
    int file = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0 && ftruncate(file, 4096) == 0);
    char *seen = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    CHECK(seen != MAP_FAILED);
    for (int round = 0; round < ROUNDS; round++) {
        memset(data, 'a' + round, sizeof data);
        CHECK(dup2(pair[1], FD) == FD && put(MUCH) == MUCH);
        CHECK(dup2(file, FD) == FD && put(LITTLE) == LITTLE);
        CHECK(seen[round * LITTLE] == 'a' + round && seen[round * LITTLE + LITTLE - 1] == 'a' + round);
        data[LITTLE - 1] = '\n';
        CHECK(dup2(1, FD) == FD && put(LITTLE) == LITTLE);
    }
    close(FD);
    close(pair[1]);
    CHECK(waitpid(reader, &status, 0) == reader && WIFEXITED(status) && WEXITSTATUS(status) == 3);
    return 0;
}

/* The same megabyte three times in the trace: read from a file, read from a pipe by a filter, and read
 * from another pipe. The file has noise, a hole and a repetition; each reader uses pieces of another
 * size, so that no piece begins where another did. */
#include "guest.h"

enum { SIZE = 1 << 20 };
static unsigned char data[SIZE], got[SIZE];

/* Copies all of `from` into `to`, in pieces of `size`. */
static void copy(int from, int to, size_t size) {
    static unsigned char block[200000];
    ssize_t n;
    while ((n = read(from, block, size)) > 0) {
        write_all(to, block, (size_t)n);
    }
    CHECK(n == 0);
}

int main(void) {
    uint64_t seed = fresh_seed();
    fill_random(data, SIZE, &seed);
    memset(data + 300000, 0, 250000);
    memcpy(data + 700001, data, 100000);
    char name[] = "copies.XXXXXX";
    int file = mkstemp(name);
    CHECK(file >= 0 && unlink(name) == 0);
    write_all(file, data, 300000);
    CHECK(lseek(file, 250000, SEEK_CUR) == 550000);
    write_all(file, data + 550000, SIZE - 550000);
    CHECK(lseek(file, 0, SEEK_SET) == 0);

    int first[2], second[2];
    CHECK(pipe(first) == 0 && pipe(second) == 0);
    pid_t reader = fork();
    CHECK(reader >= 0);
    if (reader == 0) {
        close(second[0]);
        close(second[1]);
        copy(file, first[1], 131072);
        _exit(0);
    }
    close(first[1]);
    pid_t filter = fork();
    CHECK(filter >= 0);
    if (filter == 0) {
        copy(first[0], second[1], 50001);
        _exit(0);
    }
    close(first[0]);
    close(second[1]);
    size_t done = 0;
    for (size_t size = 1; done < SIZE; size = size * 3 % 40009) {
        ssize_t n = read(second[0], got + done, size < SIZE - done ? size : SIZE - done);
        CHECK(n > 0);
        done += (size_t)n;
    }
    CHECK(memcmp(data, got, SIZE) == 0);
    expect_exit(reader, 0);
    expect_exit(filter, 0);
    printf("%016llx\n", (unsigned long long)checksum(got, SIZE));
    return 0;
}

/* A file mapped shared and read-only in several processes, until it changes: by pwrite, by a mapping
 * that becomes writable (mprotect), by a mapping that is writable from the start, and by a new size.
 * Every mapping shows the change, and so does a mapping of a part that was not mapped then. */
#include "guest.h"
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 16, LENGTH = PAGES * PAGE };

enum { BY_PWRITE, BY_MPROTECT, BY_MMAP, BY_FTRUNCATE, BY_TRUNCATE, BY_OPEN, BY_UNMAPPED, WAYS };

static unsigned char data[LENGTH];

static void tell(int fd) {
    write_all(fd, "x", 1);
}

static void hear(int fd) {
    char byte;
    read_all(fd, &byte, 1);
}

static void change(int way, int fd, unsigned char *map) {
    switch (way) {
    case BY_PWRITE:
        CHECK(pwrite(fd, "changed", 7, 2 * PAGE - 3) == 7);
        break;
    case BY_MPROTECT:
        CHECK(mprotect(map + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
        getppid();
        memcpy(map + 2 * PAGE - 3, "changed", 7);
        getppid();
        CHECK(mprotect(map + PAGE, 2 * PAGE, PROT_READ) == 0);
        break;
    case BY_MMAP: {
        unsigned char *window = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
        CHECK(window != MAP_FAILED);
        memcpy(window + PAGE - 3, "changed", 7);
        CHECK(munmap(window, 2 * PAGE) == 0);
        break;
    }
    case BY_FTRUNCATE:
        CHECK(ftruncate(fd, 2 * PAGE + 5) == 0);
        CHECK(ftruncate(fd, LENGTH) == 0);
        break;
    case BY_TRUNCATE:
        CHECK(truncate("file", 2 * PAGE + 5) == 0);
        getppid();
        CHECK(truncate("file", LENGTH) == 0);
        break;
    case BY_OPEN:
        CHECK(close(open("file", O_RDWR | O_TRUNC)) == 0);
        getppid();
        CHECK(ftruncate(fd, LENGTH) == 0);
        break;
    case BY_UNMAPPED:
        CHECK(pwrite(fd, "changed", 7, 12 * PAGE) == 7);
        break;
    }
}

static void expect(int way, const unsigned char *map) {
    switch (way) {
    case BY_PWRITE:
    case BY_MPROTECT:
    case BY_MMAP:
        CHECK(memcmp(map + 2 * PAGE - 3, "changed", 7) == 0 && memcmp(map, data, PAGE) == 0);
        break;
    case BY_FTRUNCATE:
    case BY_TRUNCATE:
        CHECK(map[2 * PAGE + 5] == 0 && memcmp(map, data, 2 * PAGE + 5) == 0);
        break;
    case BY_OPEN:
        CHECK(map[0] == 0 && map[2 * PAGE] == 0);
        break;
    case BY_UNMAPPED:
        CHECK(memcmp(map, data, 8 * PAGE) == 0);
        break;
    }
}

static void one(int way) {
    uint64_t seed = fresh_seed();
    fill_random(data, LENGTH, &seed);
    int fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    write_all(fd, data, LENGTH);
    unsigned char *map = mmap(NULL, 8 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char *second = mmap(NULL, 3 * PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
    CHECK(map != MAP_FAILED && second != MAP_FAILED);
    int to_child[2], to_parent[2];
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(memcmp(map, data, 8 * PAGE) == 0);
        tell(to_parent[1]);
        hear(to_child[0]);
        expect(way, map);
        CHECK(memcmp(map + PAGE, second, 3 * PAGE) == 0);
        change(BY_PWRITE, fd, map);
        _exit(0);
    }
    hear(to_parent[0]);
    CHECK(memcmp(map, data, 8 * PAGE) == 0);
    change(way, fd, map);
    expect(way, map);
    getppid();
    tell(to_child[1]);
    expect_exit(child, 0);
    CHECK(memcmp(map + 2 * PAGE - 3, "changed", 7) == 0);
    unsigned char *rest = mmap(NULL, 8 * PAGE, PROT_READ, MAP_SHARED, fd, 8 * PAGE);
    CHECK(rest != MAP_FAILED);
    getppid();
    if (way == BY_UNMAPPED) {
        CHECK(memcmp(rest + 4 * PAGE, "changed", 7) == 0 && memcmp(rest, data + 8 * PAGE, 4 * PAGE) == 0);
    }
    printf("%d %016llx %016llx %016llx\n", way, (unsigned long long)checksum(map, 8 * PAGE),
           (unsigned long long)checksum(second, 3 * PAGE), (unsigned long long)checksum(rest, 8 * PAGE));
    CHECK(munmap(map, 8 * PAGE) == 0 && munmap(second, 3 * PAGE) == 0 && munmap(rest, 8 * PAGE) == 0);
    close(fd);
    for (int i = 0; i < 2; i++) {
        close(to_child[i]);
        close(to_parent[i]);
    }
}

int main(void) {
    for (int way = 0; way < WAYS; way++) {
        one(way);
    }
    CHECK(unlink("file") == 0);
    return 0;
}

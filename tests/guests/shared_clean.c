/* A file mapped shared and read-only that no process changes: with an offset, beyond its end, again
 * after munmap, in forked and other processes, beside private mappings. */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>

enum { PAGE = 4096, LENGTH = 20 * PAGE + 123 };

static sigjmp_buf back;

static void on_bus(int signal) {
    siglongjmp(back, signal);
}

/* Returns if reading `at` causes SIGBUS. */
static int beyond(const volatile unsigned char *at) {
    if (sigsetjmp(back, 1) != 0) {
        return 1;
    }
    (void)*at;
    return 0;
}

static unsigned char *map(size_t length, int protection, int flags, off_t offset) {
    int fd = open("file", O_RDONLY);
    CHECK(fd >= 0);
    unsigned char *at = mmap(NULL, length, protection, flags, fd, offset);
    CHECK(at != MAP_FAILED && close(fd) == 0);
    return at;
}

int main(void) {
    uint64_t seed = fresh_seed();
    static unsigned char data[LENGTH];
    fill_random(data, LENGTH, &seed);
    int fd = open("file", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    write_all(fd, data, LENGTH);
    CHECK(close(fd) == 0);
    struct sigaction bus = {.sa_handler = on_bus};
    CHECK(sigaction(SIGBUS, &bus, NULL) == 0);

    unsigned char *all = map(30 * PAGE, PROT_READ, MAP_SHARED, 0);
    CHECK(memcmp(all, data, LENGTH) == 0 && all[21 * PAGE - 1] == 0);
    CHECK(!beyond(all + 21 * PAGE - 1) && beyond(all + 21 * PAGE) && beyond(all + 30 * PAGE - 1));
    unsigned char *tail = map(3 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, 19 * PAGE);
    CHECK(memcmp(tail, data + 19 * PAGE, PAGE + 123) == 0 && tail[PAGE + 123] == 0 && beyond(tail + 2 * PAGE));
    unsigned char *own = map(LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    own[3 * PAGE] ^= 1;
    CHECK(memcmp(all, data, LENGTH) == 0);
    /* The descriptor was open for reading only. */
    CHECK(mprotect(all, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
    CHECK(mprotect(all + PAGE, PAGE, PROT_NONE) == 0 && mprotect(all + PAGE, PAGE, PROT_READ) == 0);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(memcmp(all, data, LENGTH) == 0 && own[3 * PAGE] != all[3 * PAGE]);
        CHECK(munmap(all, 30 * PAGE) == 0);
        getppid();
        CHECK(memcmp(tail, data + 19 * PAGE, PAGE) == 0);
        unsigned char *again = map(LENGTH, PROT_READ, MAP_SHARED, 0);
        CHECK(memcmp(again, data, LENGTH) == 0 && beyond(tail + 2 * PAGE));
        unsigned char *moved = mremap(again, LENGTH, 40 * PAGE, MREMAP_MAYMOVE);
        CHECK(moved != MAP_FAILED && memcmp(moved, data, LENGTH) == 0 && beyond(moved + 25 * PAGE));
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(munmap(all, 30 * PAGE) == 0 && munmap(tail, 3 * PAGE) == 0);
    getppid();
    all = map(LENGTH, PROT_READ, MAP_SHARED, 0);
    CHECK(memcmp(all, data, LENGTH) == 0 && unlink("file") == 0);
    getppid();
    printf("%016llx %016llx\n", (unsigned long long)checksum(all, LENGTH), (unsigned long long)checksum(own, LENGTH));
    return 0;
}

/* One file mapped privately and shared at the same time. Linux shows data stored through the shared
 * mapping in those pages of a private mapping that its process has not written to: in this process and
 * in others, whichever mapping was made first. */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 8 };

static int fd;
static uint64_t seed;

static unsigned char *map(int how, int prot, int pages) {
    unsigned char *m = mmap(NULL, pages * PAGE, prot, how, fd, 0);
    CHECK(m != MAP_FAILED);
    return m;
}

static unsigned char some(void) {
    return (unsigned char)(next_random(&seed) | 1);
}

static void show(const char *what, const unsigned char *m) {
    printf("%s:", what);
    for (int i = 0; i < PAGES; i++) {
        printf(" %d,%d", m[i * PAGE], m[i * PAGE + 9]);
    }
    printf("\n");
    fflush(stdout);
}

/* A step of another process, and back. */
static void step(int to, int from) {
    char byte = 's';
    write_all(to, &byte, 1);
    read_all(from, &byte, 1);
}

static sigjmp_buf back;

static void on_bus(int signal) {
    (void)signal;
    siglongjmp(back, 1);
}

static int at(const volatile unsigned char *m, long offset) {
    return sigsetjmp(back, 1) ? -1 : m[offset];
}

int main(void) {
    seed = fresh_seed();
    static unsigned char data[PAGES * PAGE];
    fill_random(data, sizeof data, &seed);
    fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    write_all(fd, data, sizeof data);

    /* Private mappings first: of two processes, each of which has written to some pages. */
    unsigned char *before = map(MAP_PRIVATE, PROT_READ | PROT_WRITE, PAGES);
    CHECK(before[5 * PAGE] == data[5 * PAGE]); /* read: still the file's */
    before[PAGE] = 'p';
    before[7 * PAGE + 9] = 0;
    int there[2], here[2];
    CHECK(pipe(there) == 0 && pipe(here) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        before[2 * PAGE] = 'c';
        for (int i = 0; i < 4; i++) {
            read_all(there[0], &byte, 1);
            show("child", before);
            before[(4 + i % 2) * PAGE] = 'C';
            write_all(here[1], &byte, 1);
        }
        /* A page that the process gives back shows the file again. */
        CHECK(madvise(before, PAGES * PAGE, MADV_DONTNEED) == 0);
        show("child anew", before);
        _exit(0);
    }
    step(there[1], here[0]);

    /* First only readable, then writable; a store is not a system call. */
    unsigned char *shared = map(MAP_SHARED, PROT_READ, PAGES);
    step(there[1], here[0]);
    CHECK(mprotect(shared, PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
    for (int i = 0; i < PAGES; i++) {
        shared[i * PAGE] = some();
        shared[i * PAGE + 9] = some();
    }
    CHECK(before[0] == shared[0] && before[2 * PAGE] == shared[2 * PAGE]);
    CHECK(before[PAGE] == 'p' && before[7 * PAGE + 9] == 0);
    show("stored", before);
    step(there[1], here[0]);

    /* A private mapping that comes afterwards, and changes made by a call. */
    unsigned char *after = map(MAP_PRIVATE, PROT_READ | PROT_WRITE, PAGES);
    after[3 * PAGE] = 'a';
    shared[3 * PAGE] = some();
    shared[6 * PAGE] = some();
    CHECK(after[6 * PAGE] == shared[6 * PAGE] && after[3 * PAGE] == 'a' && before[3 * PAGE] == shared[3 * PAGE]);
    unsigned char word[PAGE];
    fill_random(word, sizeof word, &seed);
    CHECK(pwrite(fd, word, sizeof word, 6 * PAGE - 100) == PAGE);
    CHECK(memcmp(after + 6 * PAGE - 100, word, PAGE) == 0 && memcmp(shared + 6 * PAGE - 100, word, PAGE) == 0);
    show("after", after);
    step(there[1], here[0]);
    expect_exit(child, 0);

    /* Another process stores, and ends. */
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        shared[0] = 'w';
        shared[4 * PAGE] = 'w';
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(before[0] == 'w' && after[0] == 'w' && after[4 * PAGE] == 'w');

    /* No process has the file mapped shared any more: only calls change it. */
    CHECK(munmap(shared, PAGES * PAGE) == 0);
    CHECK(pwrite(fd, word, sizeof word, 50) == PAGE);
    CHECK(memcmp(after + 50, word, PAGE) == 0);
    show("call", after);
    shared = map(MAP_SHARED, PROT_READ | PROT_WRITE, 1);
    shared[60] = some();
    CHECK(after[60] == shared[60] && before[60] == shared[60]);
    unsigned char *moved = mremap(after, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED);

    /* The file's size changes while another process has it mapped privately. */
    CHECK(signal(SIGBUS, on_bus) != SIG_ERR);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(at(moved, PAGES * PAGE) == -1);
        CHECK(ftruncate(fd, 2 * PAGE + 5) == 0);
        CHECK(at(moved, 2 * PAGE + 4) >= 0 && at(moved, 2 * PAGE + 5) == 0 && at(moved, 3 * PAGE) == -1);
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(at(moved, 3 * PAGE) == -1 && at(before, PAGE) == 'p' && at(before, 7 * PAGE) == -1);
    CHECK(ftruncate(fd, 2 * PAGES * PAGE) == 0);
    CHECK(at(moved, 3 * PAGE) == 0 && at(moved, 2 * PAGES * PAGE - 1) == 0 && at(before, 7 * PAGE) == 0);
    moved[9 * PAGE] = 'm';
    CHECK(pwrite(fd, word, sizeof word, 9 * PAGE - 100) == PAGE);
    CHECK(moved[9 * PAGE] == 'm' && memcmp(moved + 9 * PAGE - 100, word, 100) == 0);
    show("sized", before);
    printf("%016llx %016llx\n", (unsigned long long)checksum(moved, 2 * PAGES * PAGE),
           (unsigned long long)checksum(before, PAGES * PAGE));
    return 0;
}

/* A file mapped privately that grows and is truncated afterwards: the added part is visible, and an
 * access beyond the end is a SIGBUS. */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 16 };

static sigjmp_buf back;

static void on_bus(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    CHECK(info->si_code == BUS_ADRERR);
    siglongjmp(back, 1);
}

/* Returns a byte, or -1 if there is none. */
static int at(const volatile unsigned char *m, long offset) {
    if (sigsetjmp(back, 1)) {
        return -1;
    }
    return m[offset];
}

static int fd;

static unsigned char *map(long offset, int prot) {
    unsigned char *m = mmap(NULL, (PAGES * PAGE) - offset, prot, MAP_PRIVATE, fd, offset);
    CHECK(m != MAP_FAILED);
    return m;
}

static void put(char byte, long offset) {
    CHECK(pwrite(fd, &byte, 1, offset) == 1);
}

static void show(const char *what, const unsigned char *m) {
    printf("%s:", what);
    for (int i = 0; i < PAGES; i++) {
        printf(" %d,%d", at(m, i * PAGE), at(m, i * PAGE + 4000));
    }
    printf("\n");
    fflush(stdout);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGBUS, &action, NULL) == 0);
    fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    put('x', 0);
    unsigned char *m = map(0, PROT_READ | PROT_WRITE);
    unsigned char *late = map(2 * PAGE, PROT_READ);
    CHECK(at(m, 0) == 'x' && at(m, PAGE) == -1 && at(late, 0) == -1);

    /* The file grows without contents, and then gets some. */
    CHECK(ftruncate(fd, 40000) == 0);
    CHECK(at(m, 20000) == 0 && at(m, 10 * PAGE) == -1 && at(late, 0) == 0);
    put('a', 30000);
    CHECK(at(m, 30000) == 'a' && at(late, 30000 - 2 * PAGE) == 'a');
    m[5 * PAGE] = 'm';
    put('b', 5 * PAGE + 1);
    CHECK(at(m, 5 * PAGE + 1) == 0);
    CHECK(at(late, 3 * PAGE + 1) == 'b');
    show("grown", m);

    /* The file grows byte by byte, and all of it is visible. */
    CHECK(lseek(fd, 0, SEEK_END) == 40000);
    for (int i = 0; i < 20; i++) {
        char line[300];
        memset(line, 'A' + i, sizeof line);
        write_all(fd, line, sizeof line);
        CHECK(at(m, 40000 + i * 300) == 'A' + i && at(m, 40000 + i * 300 + 299) == 'A' + i);
        CHECK(at(m, 40000 + i * 300 + 300) == 0 || at(m, 40000 + i * 300 + 300) == -1);
    }
    show("appended", m);

    /* The page belongs to the program after the program's first write to it. */
    m[40000] = '!';
    put('?', 40001);
    CHECK(at(m, 40000) == '!' && at(m, 40001) == 'A');

    /* The file is truncated: pages beyond the end are gone, even the program's own. */
    CHECK(ftruncate(fd, 3 * PAGE + 10) == 0);
    CHECK(at(m, 5 * PAGE) == -1 && at(m, 4 * PAGE) == -1 && at(m, 3 * PAGE + 4000) == 0);
    show("cut", m);
    CHECK(truncate("file", 7 * PAGE) == 0);
    CHECK(at(m, 5 * PAGE) == 0 && at(m, 5 * PAGE + 1) == 0 && at(m, 7 * PAGE) == -1);
    put('c', 6 * PAGE);
    m[6 * PAGE + 1] = 'd';
    CHECK(at(m, 6 * PAGE) == 'c' && at(m, 6 * PAGE + 1) == 'd');
    show("again", m);
    CHECK(truncate("file", PAGE) == 0);
    CHECK(at(m, 6 * PAGE) == -1 && at(m, 0) == 'x');

    /* A second mapping, and a child with all of them. */
    CHECK(mprotect(m + PAGE, PAGE, PROT_READ) == 0);
    unsigned char *n = map(0, PROT_READ);
    put('e', 2 * PAGE);
    CHECK(at(m, 2 * PAGE) == 'e' && at(n, 2 * PAGE) == 'e' && at(late, 0) == 'e');
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        show("child", m);
        CHECK(munmap(n, 2 * PAGE) == 0 && at(n + 2 * PAGE, 0) == 'e');
        _exit(0);
    }
    expect_exit(child, 0);
    int cut = open("file", O_WRONLY | O_TRUNC);
    CHECK(cut >= 0);
    CHECK(at(m, 0) == -1 && at(n, 0) == -1);
    show("nothing", m);
    put('f', 0);
    CHECK(at(m, 0) == 'f' && at(n, 0) == 'f' && at(n, 1) == 0);
    CHECK(fallocate(fd, 0, 0, PAGES * PAGE) == 0);
    show("full", m);
    return 0;
}

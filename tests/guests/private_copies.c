/* Pages of a private mapping that become the process's own without being written to: because they are populated or locked. They do
 * not show what is written to the file later. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/resource.h>

#define PAGE 4096
#define PAGES 4
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static int fd;
static volatile char *shared;

static char *map(int protection, int flags) {
    return mmap(NULL, PAGES * PAGE, protection, MAP_PRIVATE | flags, fd, 0);
}

static void fill(char c) {
    for (int i = 0; i < PAGES; i++) {
        shared[i * PAGE] = c;
    }
}

/* The file changes: shows which pages show the change. */
static void show(const char *what, const volatile char *private, int is_possible) {
    printf("%s:", what);
    if (!is_possible) {
        /* The limit of locked memory, or an old kernel. */
        puts(" not possible");
        return;
    }
    CHECK(private != MAP_FAILED);
    fill('b');
    for (int i = 0; i < PAGES; i++) {
        printf(" %c", private[i * PAGE]);
    }
    puts("");
    CHECK(munmap((void *)private, PAGES * PAGE) == 0);
}

int main(void) {
    char name[] = "private_copies.XXXXXX";
    fd = mkstemp(name);
    CHECK(fd >= 0 && unlink(name) == 0 && ftruncate(fd, PAGES * PAGE) == 0);
    shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(shared != MAP_FAILED);
    const int RW = PROT_READ | PROT_WRITE;
    for (int round = 0; round < 2; round++) {
        char *m;
        fill('a');
        show("nothing", map(RW, 0), 1);
        fill('a');
        show("MAP_POPULATE", map(RW, MAP_POPULATE), 1);
        fill('a');
        show("MAP_POPULATE, not writable", map(PROT_READ, MAP_POPULATE), 1);
        /* Several times, before anything is locked: then it can be a buffered call. */
        for (int i = 0; i < 3; i++) {
            fill('a');
            m = map(RW, 0);
            show("MADV_POPULATE_WRITE", m, madvise(m + 2 * PAGE, PAGE, MADV_POPULATE_WRITE) == 0);
        }
        fill('a');
        m = map(RW, MAP_LOCKED);
        show("MAP_LOCKED", m, m != MAP_FAILED);
        fill('a');
        m = map(RW, 0);
        show("mlock", m, mlock(m + PAGE, 2 * PAGE) == 0);
        fill('a');
        m = map(PROT_READ, 0);
        show("mlock, not writable", m, mlock(m, PAGES * PAGE) == 0);
        fill('a');
        m = map(PROT_READ, 0);
        int is_possible = mlock(m, 2 * PAGE) == 0;
        CHECK(mprotect(m, 3 * PAGE, RW) == 0);
        show("mlock, then writable", m, is_possible);
        fill('a');
        m = map(RW, 0);
        show("mlock2, when used", m, mlock2(m, PAGES * PAGE, MLOCK_ONFAULT) == 0);
        fill('a');
        m = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
        is_possible = mlock(m, PAGE) == 0;
        m = mremap(m, PAGE, PAGES * PAGE, MREMAP_MAYMOVE);
        show("mlock, then longer", m, is_possible);
        struct rlimit limit;
        CHECK(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
        if (limit.rlim_cur > 100 << 20 || geteuid() == 0) {
            fill('a');
            m = map(RW, 0);
            show("mlockall, now", m, mlockall(MCL_CURRENT) == 0);
            CHECK(munlockall() == 0);
            CHECK(mlockall(MCL_FUTURE) == 0);
            fill('a');
            show("mlockall, later", map(RW, 0), 1);
            CHECK(munlockall() == 0);
        }
        fflush(stdout);
    }
    return 0;
}

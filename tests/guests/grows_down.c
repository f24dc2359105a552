/* Mappings that grow downwards (MAP_GROWSDOWN): by a touch, by a write of the kernel, over a call, in a child; down to
 * the gap above the next mapping, where a fault comes. */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE 4096l
#define ROOM (4l << 20)

static sigjmp_buf back;
static void on_fault(int signal) {
    (void)signal;
    siglongjmp(back, 1);
}

/* A page that may grow down to `room` bytes below, where nothing or a mapping lies. */
static char *growing(long room, int neighbour) {
    char *at = mmap(NULL, (size_t)(room + PAGE), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED && munmap(at, (size_t)(room + PAGE)) == 0);
    if (neighbour) {
        CHECK(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
    }
    char *page = mmap(at + room, PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    CHECK(page == at + room);
    return page;
}

int main(void) {
    char *top = growing(ROOM, 0);
    for (long n = 0; n < 300; n++) {
        top[-PAGE * n] = (char)n;
        if (n % 50 == 0) {
            getppid();
        }
    }
    printf("%lx\n", (unsigned long)checksum(top - 299 * PAGE, 300 * PAGE));

    /* The kernel writes there first. */
    char *kernel = growing(ROOM, 0);
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], "grown", 5) == 5);
    CHECK(read(ends[0], kernel - 20 * PAGE, 5) == 5 && memcmp(kernel - 20 * PAGE, "grown", 5) == 0);

    /* It grows in a child as well, and in the parent not for that. */
    pid_t child = fork();
    if (child == 0) {
        kernel[-100 * PAGE] = 'c';
        kernel[-20 * PAGE] = 'c';
        _exit(kernel[-100 * PAGE] + kernel[-20 * PAGE] == 2 * 'c' ? 0 : 1);
    }
    expect_exit(child, 0);
    CHECK(kernel[-20 * PAGE] == 'g');

    /* Down to the gap of 256 pages above a mapping. */
    char *near = growing(ROOM, 1);
    struct sigaction action = {.sa_handler = on_fault};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    volatile long n = 0;
    if (sigsetjmp(back, 1) == 0) {
        for (;; n++) {
            *(volatile char *)(near - PAGE * n) = 1;
        }
    }
    printf("%ld pages\n", n);
    CHECK(n == ROOM / PAGE - 256);
    return 0;
}

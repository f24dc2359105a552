/* mprotect with PROT_GROWSDOWN applies down to the beginning of the stack, however far the stack has
 * grown, and to later growth; the same for other mappings that grow downwards. (glibc makes the stack
 * executable in this way.) */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { PAGE = 4096 };

static sigjmp_buf back;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)info;
    (void)context;
    siglongjmp(back, 1);
}

/* Executes a `ret` on the stack, this number of bytes further down. */
static __attribute__((noinline)) int runs(int depth) {
    volatile char room[depth];
    room[0] = (char)0xc3;
    if (sigsetjmp(back, 1)) {
        return 0;
    }
    ((void (*)(void))(uintptr_t)room)();
    return room[0] != 0;
}

static int is_writable(volatile unsigned char *m) {
    if (sigsetjmp(back, 1)) {
        return 0;
    }
    *m = 1;
    return 1;
}

int main(void) {
    static char other_stack[65536];
    stack_t alternative = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    CHECK(sigaltstack(&alternative, NULL) == 0);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);

    CHECK(!runs(100) && !runs(300000));
    char *page = (char *)((uintptr_t)__builtin_frame_address(0) & -PAGE);
    int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    CHECK(mprotect(page, PAGE, all | PROT_GROWSUP) == -1 && errno == EINVAL);
    CHECK(mprotect(page, PAGE, all | PROT_GROWSDOWN | PROT_GROWSUP) == -1 && errno == EINVAL);
    CHECK(!runs(100));
    CHECK(mprotect(page, PAGE, all | PROT_GROWSDOWN) == 0);
    CHECK(runs(100) && runs(200000));
    /* Later growth of the stack. */
    CHECK(runs(2000000));
    CHECK(mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_GROWSDOWN) == 0);
    CHECK(!runs(100) && !runs(200000));

    unsigned char *m = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    CHECK(mprotect(m + 10 * PAGE, PAGE, PROT_READ | PROT_GROWSDOWN) == -1 && errno == EINVAL);
    CHECK(munmap(m, 64 * PAGE) == 0);
    unsigned char *stack = mmap(m + 40 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    CHECK(stack == m + 40 * PAGE);
    CHECK(mprotect(stack + 4 * PAGE, PAGE, PROT_READ | PROT_GROWSDOWN) == 0);
    CHECK(!is_writable(stack) && !is_writable(stack + 4 * PAGE) && is_writable(stack + 5 * PAGE));
    /* A child inherits the protection. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(!is_writable(stack + 3 * PAGE));
        CHECK(mprotect(page, PAGE, all | PROT_GROWSDOWN) == 0 && runs(100) && runs(200000));
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(!runs(100));
    printf("%p\n", (void *)page);
    return 0;
}

/* Faults whose handler cannot be entered, because there is no memory behind the alternate stack: the
 * kernel sends SIGSEGV instead of the original signal. */
#include "guest.h"
#include <sys/mman.h>

static void handler(int signal) {
    _exit(signal); /* never */
}

/* Makes a child that accesses `bad` in the way `access`, with its alternate stack at `stack`, and so
 * faults. */
static void fault(char *bad, void *stack, int cause) {
    pid_t child = fork();
    if (child == 0) {
        stack_t alternate = {.ss_sp = stack, .ss_size = 65536};
        CHECK(sigaltstack(&alternate, NULL) == 0);
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
        CHECK(sigaction(cause, &action, NULL) == 0);
        if (cause == SIGILL) {
            __asm__ volatile("ud2");
        }
        *(volatile char *)bad = 1;
        _exit(98);
    }
    expect_death(child, SIGSEGV);
}

int main(void) {
    void *nothing = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(nothing != MAP_FAILED);
    /* A mapping beyond the end of its file: SIGBUS. */
    int fd = open(scratch_dir(), O_TMPFILE | O_RDWR, 0600);
    if (fd < 0) {
        fd = memfd_create("empty", 0);
    }
    CHECK(fd >= 0);
    char *beyond = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(beyond != MAP_FAILED);
    fault(nothing, nothing, SIGSEGV);
    fault(beyond, nothing, SIGBUS);
    fault(beyond, beyond, SIGBUS);
    fault(nothing, nothing, SIGILL);
    printf("%p\n", nothing);
    return 0;
}

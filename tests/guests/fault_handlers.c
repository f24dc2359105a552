/* Handlers for SIGILL, SIGFPE, SIGTRAP and SIGBUS that step over the instruction or jump away. */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile sig_atomic_t ills, traps;

static void on_ill(int signal, siginfo_t *info, void *context) {
    ucontext_t *state = context;
    CHECK(signal == SIGILL && info->si_addr == (void *)state->uc_mcontext.gregs[REG_RIP]);
    state->uc_mcontext.gregs[REG_RIP] += 2; /* over the ud2 */
    state->uc_mcontext.gregs[REG_RAX] = 77;
    ills++;
}

static void on_trap(int signal) {
    CHECK(signal == SIGTRAP);
    traps++;
}

static void jump(int signal) {
    siglongjmp(back, signal);
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_ill;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGILL, &action, NULL) == 0);
    signal(SIGTRAP, on_trap);
    signal(SIGFPE, jump);
    signal(SIGBUS, jump);
    for (int i = 0; i < 5; i++) {
        long result = 1;
        __asm__ volatile("ud2" : "+a"(result));
        CHECK(result == 77 && ills == i + 1);
        __asm__ volatile("int3");
        CHECK(traps == i + 1);
    }
    volatile int zero = 0, got = sigsetjmp(back, 1);
    if (got == 0) {
        printf("%d\n", 1000 / zero);
        CHECK(!"reached");
    }
    CHECK(got == SIGFPE);
    int fd = open("short", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 10000) == 0 && unlink("short") == 0);
    volatile char *map = mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    map[9000] = 1;
    CHECK(ftruncate(fd, 100) == 0);
    got = sigsetjmp(back, 1);
    if (got == 0) {
        map[9000] = 2;
        CHECK(!"reached");
    }
    CHECK(got == SIGBUS);
    map[50] = 3;
    printf("handled in %d\n", getpid());
    return 0;
}

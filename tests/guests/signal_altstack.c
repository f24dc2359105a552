// guest: cflags=-Wno-infinite-recursion
/* A handler on an alternate stack, called for a stack overflow, which it survives by siglongjmp. */
#include "guest.h"
#include <setjmp.h>
#include <sys/resource.h>

static sigjmp_buf back;
static char alternate[65536];
static volatile sig_atomic_t on_alternate;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    char here;
    on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
    CHECK(signal == SIGSEGV && info->si_addr != NULL);
    siglongjmp(back, 1);
}

static int overflow(int depth) {
    volatile char frame[4096];
    frame[0] = (char)depth;
    return overflow(depth + 1) + frame[0];
}

int main(void) {
    struct rlimit limit = {1 << 20, 1 << 20};
    CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate}, old;
    CHECK(sigaltstack(&stack, NULL) == 0);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    for (volatile int i = 0; i < 3; i++) {
        on_alternate = 0;
        if (sigsetjmp(back, 1) == 0) {
            overflow(0);
            CHECK(!"reached");
        }
        CHECK(on_alternate);
    }
    CHECK(sigaltstack(NULL, &old) == 0 && old.ss_sp == alternate && old.ss_flags == 0);
    printf("survived, stack %p\n", (void *)alternate);
    return 0;
}

// guest: cflags=-O1
/* CLONE_VM without CLONE_THREAD: another process in the same memory, reaped with wait. */
#include "guest.h"
#include <sched.h>

static volatile int word;
static _Alignas(16) char stack[65536];

static int run(void *argument) {
    word = *(int *)argument + 1;
    return 17;
}

int main(void) {
    int argument = getpid();
    for (int i = 0; i < 5; i++) {
        word = 0;
        pid_t child = clone(run, stack + sizeof stack, CLONE_VM | CLONE_FILES | SIGCHLD, &argument);
        CHECK(child >= 0);
        expect_exit(child, 17);
        CHECK(word == argument + 1);
    }
    printf("%d\n", word);
    return 0;
}

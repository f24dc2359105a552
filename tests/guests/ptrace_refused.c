/* A recorded program cannot trace others: EPERM, and the child it meant to trace lives on. */
#include "guest.h"
#include <sys/ptrace.h>

int main(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        long result = ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        CHECK(recorded() ? result == -1 && errno == EPERM : result == 0);
        _exit(2);
    }
    expect_exit(child, 2);
    return 0;
}

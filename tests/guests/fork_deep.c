// guest: heavy
/* A chain of 64 processes, each the child of the one before; the answer comes back through all. */
#include "guest.h"

static int descend(int depth) {
    if (depth == 0) {
        return 1;
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        _exit(1 + descend(depth - 1));
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    dprintf(1, "%d: %d answered %d\n", depth, child, WEXITSTATUS(status));
    return WEXITSTATUS(status);
}

int main(void) {
    CHECK(descend(64) == 65);
    return 0;
}

// guest: heavy
/* A binary tree of processes, four levels deep; every parent checks its children. */
#include "guest.h"

static int grow(int depth) {
    if (depth == 0) {
        return 1;
    }
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            int below = grow(depth - 1);
            dprintf(1, "%d: pid %d parent %d, %d below\n", depth, getpid(), getppid(), below);
            _exit(below);
        }
    }
    int sum = 0;
    for (int i = 0; i < 2; i++) {
        int status;
        pid_t pid = wait(&status);
        CHECK(pid == children[0] || pid == children[1]);
        CHECK(WIFEXITED(status));
        sum += WEXITSTATUS(status);
    }
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    return sum;
}

int main(void) {
    CHECK(grow(4) == 16);
    return 0;
}

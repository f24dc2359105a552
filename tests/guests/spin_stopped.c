// guest: special
/* Computes for some tenths of a second, and is stopped and continued from outside meanwhile. Without
 * system calls, with many of them (`calls`), or with all signals blocked (`blocked`). */
#include "guest.h"

int main(int argc, char **argv) {
    uint64_t product = 3;
    const char *how = argc > 1 ? argv[1] : "";
    if (strcmp(how, "blocked") == 0) {
        /* All signals: glibc's function leaves out two. */
        uint64_t all = ~0ul;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    }
    int calls = strcmp(how, "calls") == 0;
    dprintf(1, "%d\n", getpid());
    for (int i = 0; i < 150000000; i++) {
        product = product * 6364136223846793005u + 1;
        if (calls && i % 100000 == 0) {
            getppid();
        }
    }
    dprintf(1, "%llx\n", (unsigned long long)product);
    return 5;
}

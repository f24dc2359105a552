/* Two processes hand a flag back and forth in shared memory, waiting with sched_yield. */
#include "guest.h"
#include <sched.h>
#include <sys/mman.h>

int main(void) {
    volatile int *turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(turn != MAP_FAILED);
    pid_t child = fork();
    CHECK(child >= 0);
    for (int i = 0; i < 50; i++) {
        while (*turn != (child == 0)) {
            sched_yield();
        }
        turn[1 + i] = getpid();
        *turn = child != 0;
    }
    if (child == 0) {
        _exit(0);
    }
    expect_exit(child, 0);
    printf("%d %d\n", turn[50], child);
    return 0;
}

// guest: special
/* Signals without a handler, at a system call and in the middle of computing: without rr the first one
 * kills. */
#include "guest.h"

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "int3") == 0) {
        printf("before\n");
        fflush(stdout);
        __asm__ volatile("int3");
        printf("after %d\n", getpid());
        return 0;
    }
    raise(SIGUSR1);
    pid_t parent = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 5; i++) {
            CHECK(kill(parent, SIGUSR1) == 0);
            sleep_ms(2);
        }
        _exit(0);
    }
    volatile uint64_t sum = 0;
    for (uint64_t i = 0; i < 40000000; i++) {
        sum += i;
    }
    expect_exit(child, 0);
    printf("survived %llu\n", (unsigned long long)sum);
    return 0;
}

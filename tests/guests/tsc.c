/* rdtsc and rdtscp, in the program itself; also in a child and after exec-less forks. */
#include "guest.h"
#include <x86intrin.h>

int main(void) {
    unsigned int cpu = 0;
    unsigned long long last = __rdtsc();
    for (int i = 0; i < 200; i++) {
        unsigned long long now = i % 2 ? __rdtsc() : __rdtscp(&cpu);
        CHECK(now >= last);
        if (i % 20 == 0) {
            printf("%llu +%llu\n", now, now - last);
        }
        last = now;
    }
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        unsigned long long mine = __rdtsc();
        dprintf(1, "child %llu\n", mine);
        _exit(mine >= last ? 0 : 1);
    }
    expect_exit(child, 0);
    dprintf(1, "parent %llu\n", __rdtsc());
    return 0;
}

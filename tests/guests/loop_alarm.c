// guest: heavy
// A handler that is called in a loop without system calls, as in `openssl speed`.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

static volatile sig_atomic_t run;
static void stop(int s) { (void)s; run = 0; }

__attribute__((noinline)) static unsigned in_registers(void)
{
    unsigned x = 1, n = 0;
    while (run) {
        x = x * 1664525 + 1013904223;
        n++;
    }
    return x ^ n;
}

__attribute__((noinline)) static unsigned in_memory(void)
{
    static volatile unsigned count;
    count = 0;
    while (run)
        count++;
    return count;
}

__attribute__((noinline)) static unsigned nested(void)
{
    static unsigned char block[4096];
    unsigned sum = 0, turns = 0;
    while (run) {
        for (unsigned i = 0; i < sizeof block; i++) {
            block[i] = block[i] * 3 + i + turns;
            sum += block[i];
        }
        turns++;
    }
    return sum ^ turns;
}

static int recursive(int depth)
{
    if (!run)
        return depth;
    return depth > 100 ? depth & 1 : recursive(depth + 1) + recursive(depth + 7);
}

static double floating(void)
{
    double x = 0.5;
    long n = 0;
    while (run) {
        x = 3.9 * x * (1 - x);
        n++;
    }
    return x * n;
}

static void during(const char *name, long us)
{
    struct itimerval t = {.it_value = {us / 1000000, us % 1000000}};
    run = 1;
    setitimer(ITIMER_REAL, &t, 0);
    printf("%s ", name);
}

int main(void)
{
    struct sigaction a = {.sa_handler = stop};
    sigaction(SIGALRM, &a, 0);
    during("registers", 30000);
    printf("%u\n", in_registers());
    during("memory", 30000);
    printf("%u\n", in_memory());
    during("nested", 30000);
    printf("%u\n", nested());
    during("recursive", 30000);
    unsigned long r = 0;
    while (run)
        r += recursive(0);
    printf("%lu\n", r);
    during("floating", 30000);
    printf("%.17g\n", floating());
    return 0;
}

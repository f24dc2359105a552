// guest: heavy
// Turns of a loop that all compute the same, as those of `openssl speed`: registers and all memory near the stack's top
// repeat in each turn, and only a counter in a frame far up tells one turn from another.
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>

static volatile sig_atomic_t run = 1;
static void stop(int s) { (void)s; run = 0; }

__attribute__((noinline)) static unsigned long digest(void)
{
    unsigned long w[80], a = 1, b = 2;
    for (int i = 0; i < 80; i++) {
        w[i] = i < 16 ? i * 0x9e3779b97f4a7c15u : w[i - 16] * 3 + (w[i - 7] >> 19) + (w[i - 2] ^ w[i - 15] << 3);
        a = (a ^ w[i]) * 0xff51afd7ed558ccdu + (b >> 29);
        b = (b << 7 | b >> 57) + a;
    }
    return a ^ b;
}

__attribute__((noinline)) static unsigned long far_down(void)
{
    volatile unsigned char room[3 * 4096];
    room[0] = 1;
    return digest() + room[0];
}

__attribute__((noinline)) static unsigned long turns(void)
{
    volatile unsigned long count = 0;
    unsigned long sum = 0;
    while (run) {
        count++;
        sum ^= far_down();
    }
    return sum ^ count << 1;
}

int main(int argc, char **argv)
{
    (void)argv;
    // With an argument: others go first.
    if (argc > 1)
        setpriority(PRIO_PROCESS, 0, 10);
    struct sigaction a = {.sa_handler = stop};
    sigaction(SIGALRM, &a, 0);
    for (int i = 0; i < 3; i++) {
        struct itimerval t = {.it_value = {0, 30000}};
        run = 1;
        setitimer(ITIMER_REAL, &t, 0);
        printf("%lu\n", turns());
    }
    return 0;
}

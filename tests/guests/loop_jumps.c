// guest: heavy
// Short loops one behind the other, without an instruction that is as long as a jump: what is written over the wrong ones,
// where the head of a loop is not the first, stops the program at each turn.
#include "guest.h"
#include <sys/time.h>

static volatile sig_atomic_t alarms;
static void on_alarm(int s) {
    (void)s;
    alarms++;
}

static unsigned turns(unsigned sum) {
    unsigned n = 1000;
    asm volatile("1:\n"
                 ".rept 300\n"
                 "mov $2, %%cl\n"
                 "2: inc %%eax\n"
                 "dec %%cl\n"
                 "jnz 2b\n"
                 ".endr\n"
                 "dec %%edx\n"
                 "jnz 1b\n"
                 : "+a"(sum), "+d"(n)::"ecx", "cc");
    return sum;
}

int main(void) {
    struct itimerval t = {.it_value = {0, 5000}, .it_interval = {0, 20000}};
    unsigned sum = 0;
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &t, 0);
    while (alarms < 8) {
        sum = turns(sum);
    }
    printf("%x\n", sum);
    return 0;
}

// guest: special
/* A loop whose turn takes thousands of instructions and leaves everything as it was, except a count of the
 * turns, which is far from all other memory. A timer interrupts it. Steps of the recorder do not come to
 * the count, but only the count distinguishes the turns. */
#include "guest.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#define TICKS 3
#define WORDS 64
#define ROUNDS 200
#define PAGES 512

static volatile sig_atomic_t ticks;
static uint64_t words[WORDS];

static void on_tick(int signal) {
    (void)signal;
    ticks++;
}

/* The same result, and the same memory, at each turn. */
static uint64_t mixed(void) {
    for (int i = 0; i < WORDS; i++) {
        words[i] = (uint64_t)i;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < WORDS; i++) {
            words[i] = words[i] * 6364136223846793005ull + words[(i + 1) % WORDS];
        }
    }
    return words[7];
}

int main(void) {
    char *memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    memset(memory, 1, PAGES * 4096);
    volatile uint64_t *turns = (uint64_t *)(memory + PAGES / 2 * 4096);
    *turns = 0;
    struct sigaction action = {.sa_handler = on_tick};
    CHECK(sigaction(SIGVTALRM, &action, NULL) == 0);
    struct itimerval each = {.it_value.tv_usec = 150000, .it_interval.tv_usec = 150000};
    CHECK(setitimer(ITIMER_VIRTUAL, &each, NULL) == 0);
    uint64_t first = mixed();
    while (ticks < TICKS) {
        CHECK(mixed() == first);
        ++*turns;
    }
    printf("%llu turns\n", (unsigned long long)*turns);
    return 0;
}

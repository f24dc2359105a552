/* vfork children that are killed while they compute in their parent's memory, between calls that need
 * no stop: the parent sees what they left there, and the parent's own calls continue from there. */
#include "guest.h"
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#define WORDS 4096

static uint64_t words[WORDS];
static uint64_t *heap;
static uint64_t *shared;

static void die_after_us(long us) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value = {0, us * 1000}};
    timer_t timer;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &when, NULL) == 0);
}

/* Changes all kinds of the parent's memory until it is killed; nothing uses the results of the calls. */
static void compute(volatile uint64_t *on_stack, int kind) {
    uint64_t state = fresh_seed();
    for (;;) {
        uint64_t n = next_random(&state);
        words[n % WORDS] += n;
        heap[n % WORDS] ^= n;
        shared[n % WORDS] -= n;
        on_stack[n % 64] = n;
        if (kind >= 1) {
            struct timespec now;
            clock_gettime(CLOCK_MONOTONIC, &now);
            words[now.tv_nsec % WORDS] ^= (uint64_t)now.tv_nsec;
        }
        if (kind >= 2) {
            struct sigaction action = {.sa_handler = SIG_IGN};
            sigaction(SIGUSR1 + (int)(n % 2), &action, NULL);
            void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            *(volatile uint64_t *)page = n;
            munmap(page, 4096);
        }
    }
}

static void round_of(int kind, long us) {
    volatile uint64_t on_stack[64] = {0};
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        die_after_us(us);
        compute(on_stack, kind);
    }
    clock_gettime(CLOCK_MONOTONIC, &after);
    expect_death(child, SIGKILL);
    CHECK(after.tv_sec > before.tv_sec || (after.tv_sec == before.tv_sec && after.tv_nsec > before.tv_nsec));
    printf("%d: %016llx %016llx %016llx %016llx\n", kind, (unsigned long long)checksum(words, sizeof words),
           (unsigned long long)checksum(heap, WORDS * 8), (unsigned long long)checksum(shared, WORDS * 8),
           (unsigned long long)checksum((void *)on_stack, sizeof on_stack));
}

int main(void) {
    heap = calloc(WORDS, 8);
    shared = mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(heap != NULL && shared != MAP_FAILED);
    for (int n = 0; n < 24; n++) {
        round_of(n % 3, 300 + 700 * (n / 3));
    }
    return 0;
}

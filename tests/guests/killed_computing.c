// guest: heavy
/* Processes that a signal ends while they compute in memory shared with others: the others see what
 * these processes left there. */
#include "guest.h"
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>

#define BYTES (64 * 4096)

/* Changes the memory until the signal: in a loop without system calls, or with calls that need no stop. */
static void compute(uint64_t *words, int calls) {
    uint64_t state = fresh_seed();
    for (;;) {
        uint64_t n = next_random(&state);
        words[n % (BYTES / 8)] += n;
        if (calls) {
            struct timespec now;
            clock_gettime(CLOCK_MONOTONIC, &now);
            words[now.tv_nsec % (BYTES / 8)] ^= (uint64_t)now.tv_nsec;
            if (getppid() == 1) {
                _exit(98);
            }
        }
    }
}

static void die_after_ms(int signal, long ms) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal};
    struct itimerspec when = {.it_value = {0, ms * 1000000}};
    timer_t timer;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &when, NULL) == 0);
}

static void round_with(void *memory) {
    static const int signals[] = {SIGKILL, SIGTERM, SIGALRM};
    for (int n = 0; n < 6; n++) {
        pid_t child = fork();
        if (child == 0) {
            die_after_ms(signals[n % 3], 3 + 4 * n);
            compute(memory, n >= 3);
        }
        expect_death(child, signals[n % 3]);
        printf("%016llx\n", (unsigned long long)checksum(memory, BYTES));
    }
}

/* Killed at all places on the way into a call and out of it. */
static void round_with_calls(uint64_t *words) {
    for (int n = 0; n < 20; n++) {
        pid_t child = fork();
        if (child == 0) {
            die_after_ms(SIGKILL, 1);
            for (uint64_t state = fresh_seed();;) {
                words[next_random(&state) % 512]++;
                getppid();
            }
        }
        expect_death(child, SIGKILL);
        printf("%016llx\n", (unsigned long long)checksum(words, BYTES));
    }
}

int main(void) {
    void *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    round_with(memory);
    int segment = shmget(IPC_PRIVATE, BYTES, 0600);
    CHECK(segment >= 0);
    void *attached = shmat(segment, NULL, 0);
    CHECK(attached != (void *)-1 && shmctl(segment, IPC_RMID, NULL) == 0);
    round_with(attached);
    round_with_calls(memory);
    round_with_calls(attached);
    return 0;
}

/* Signals come while threads wait for pages; each handler ends a wait, and the instruction faults again. */
#include "guest.h"
#include "userfault.h"

enum { PAGES = 24, THREADS = 3 };

static unsigned char *area;
static volatile sig_atomic_t signals;

static void on_signal(int signal) {
    (void)signal;
    signals++;
}

static void *add_all(void *arg) {
    uintptr_t sum = (uintptr_t)arg;
    for (int round = 0; round < 3; round++) {
        for (size_t page = 0; page < PAGES; page++) {
            sum = sum * 31 + *(volatile unsigned char *)(area + page * PAGE + (uintptr_t)arg);
        }
    }
    return (void *)sum;
}

int main(void) {
    uint64_t seed = fresh_seed();
    int uffd = userfault(0);
    area = new_pages(PAGES);
    register_pages(uffd, area, PAGES, UFFDIO_REGISTER_MODE_MISSING);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, add_all, (void *)i) == 0);
    }
    /* A message may be of a fault that is over: its thread has been woken, or has taken a signal. */
    size_t filled = 0;
    while (filled < PAGES) {
        void *page = (void *)(uintptr_t)next_message(uffd).arg.pagefault.address;
        uint64_t random = next_random(&seed);
        if (random & 128) {
            /* Threads end only when all pages are filled. */
            CHECK(pthread_kill(threads[(random >> 8) % THREADS], SIGUSR1) == 0);
        }
        int error = copy_byte(uffd, page, (int)(random & 127), 0);
        CHECK(error == 0 || error == EEXIST);
        filled += error == 0;
        struct uffdio_range range = {.start = (uintptr_t)page, .len = PAGE};
        CHECK(ioctl(uffd, UFFDIO_WAKE, &range) == 0);
    }
    uintptr_t sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *own;
        CHECK(pthread_join(threads[i], &own) == 0);
        sum += (uintptr_t)own;
    }
    printf("%lx\n", sum);
    return 0;
}

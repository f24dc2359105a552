// guest: special
/* More blocked threads than other guests have at one time: 600, in read and poll, with adjacent
 * buffers. */
#include "guest.h"
#include <poll.h>
#include <pthread.h>

enum { THREADS = 600 };

static int ends[2];
static uint64_t values[THREADS];
static struct pollfd polls[THREADS];

static void *wait_for_value(void *arg) {
    long n = (long)arg;
    if (n % 2 == 1) {
        polls[n] = (struct pollfd){.fd = ends[0], .events = POLLIN};
        CHECK(poll(&polls[n], 1, -1) == 1 && polls[n].revents == POLLIN);
    }
    CHECK(read(ends[0], &values[n], sizeof values[n]) == sizeof values[n]);
    return NULL;
}

int main(void) {
    static pthread_t threads[THREADS];
    pthread_attr_t attr;
    CHECK(pipe(ends) == 0);
    CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 64 * 1024) == 0);
    for (long i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], &attr, wait_for_value, (void *)i) == 0);
    }
    sleep_ms(20);
    uint64_t seed = fresh_seed(), sent = 0, got = 0;
    for (int i = 0; i < THREADS; i++) {
        uint64_t value = next_random(&seed);
        sent += value;
        write_all(ends[1], &value, sizeof value);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        got += values[i];
    }
    CHECK(got == sent);
    printf("%016llx %016llx\n", (unsigned long long)got, (unsigned long long)checksum(values, sizeof values));
    return 0;
}

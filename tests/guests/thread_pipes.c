/* Threads that block in reads and writes of the same process's pipes. */
#include "guest.h"
#include <pthread.h>

static int links[5][2];

static void *pass_on(void *argument) {
    int number = (int)(intptr_t)argument;
    uint64_t value;
    for (int i = 0; i < 40; i++) {
        read_all(links[number][0], &value, sizeof value);
        value = value * 3 + (uint64_t)number;
        write_all(links[number + 1][1], &value, sizeof value);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[4];
    for (int i = 0; i < 5; i++) {
        CHECK(pipe(links[i]) == 0);
    }
    for (intptr_t i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, pass_on, (void *)i) == 0);
    }
    uint64_t value = fresh_seed(), got;
    for (int i = 0; i < 40; i++) {
        write_all(links[0][1], &value, sizeof value);
        read_all(links[4][0], &got, sizeof got);
        CHECK(got == (((value * 3) * 3 + 1) * 3 + 2) * 3 + 3);
        value = got;
    }
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    printf("%016llx\n", (unsigned long long)value);
    return 0;
}

// guest: heavy
/* A process with four threads is stopped as a whole while its parent makes many calls, and goes on as a whole. */
#include "guest.h"
#include <pthread.h>
#include <sys/mman.h>

static volatile uint64_t *progress;
static int gate[2];

static void *run(void *argument) {
    intptr_t n = (intptr_t)argument;
    if (n == 3) { /* blocked for good */
        char byte;
        CHECK(read(gate[0], &byte, 1) == 1);
        return NULL;
    }
    for (int i = 0; i < 300; i++) {
        progress[n]++;
        if (n == 1) {
            sleep_ms(1);
        } else {
            (void)getppid();
        }
    }
    return NULL;
}

int main(void) {
    progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(progress != MAP_FAILED && pipe(gate) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pthread_t threads[4];
        for (intptr_t i = 1; i < 4; i++) {
            CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
        }
        run((void *)0);
        for (int i = 1; i < 4; i++) {
            CHECK(pthread_join(threads[i], NULL) == 0);
        }
        _exit(7);
    }
    uint64_t before[3];
    int status;
    for (int round = 0; round < 3; round++) {
        while (progress[1] < (uint64_t)(1 + 2 * round)) {
            sleep_ms(1);
        }
        CHECK(kill(child, SIGSTOP) == 0);
        CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
        memcpy(before, (void *)progress, sizeof before);
        for (int i = 0; i < 100; i++) {
            (void)getppid();
        }
        CHECK(memcmp(before, (void *)progress, sizeof before) == 0);
        CHECK(kill(child, SIGCONT) == 0);
    }
    write_all(gate[1], "x", 1);
    expect_exit(child, 7);
    CHECK(progress[0] == 300 && progress[1] == 300 && progress[2] == 300);
    return 0;
}

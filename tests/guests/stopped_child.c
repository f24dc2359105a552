// guest: special
/* A child with three blocked threads is stopped while its parent makes 200 calls. */
#include "guest.h"
#include <pthread.h>

static int gate[2];

static void *wait_for_byte(void *argument) {
    char byte;
    CHECK(read(gate[0], &byte, 1) == 1);
    return argument;
}

int main(void) {
    int status;
    CHECK(pipe(gate) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pthread_t threads[3];
        for (int i = 0; i < 3; i++) {
            CHECK(pthread_create(&threads[i], NULL, wait_for_byte, NULL) == 0);
        }
        sleep_ms(5);
        CHECK(raise(SIGSTOP) == 0);
        for (int i = 0; i < 3; i++) {
            CHECK(pthread_join(threads[i], NULL) == 0);
        }
        _exit(4);
    }
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    for (int i = 0; i < 200; i++) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    CHECK(kill(child, SIGCONT) == 0);
    write_all(gate[1], "xyz", 3);
    expect_exit(child, 4);
    printf("%d\n", getpid());
    return 0;
}

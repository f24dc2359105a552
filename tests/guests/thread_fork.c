/* A process of several threads forks: the child has one, and a copy of the memory. */
#include "guest.h"
#include <pthread.h>

static int stop[2];

static void *block(void *argument) {
    char byte;
    (void)!read(stop[0], &byte, 1);
    return argument;
}

static void *do_fork(void *argument) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(syscall(SYS_gettid) == getpid());
        pthread_t thread;
        CHECK(pipe(stop) == 0); /* its own: the parent's threads read from the other */
        CHECK(pthread_create(&thread, NULL, block, NULL) == 0);
        write_all(stop[1], "x", 1);
        CHECK(pthread_join(thread, NULL) == 0);
        _exit(9);
    }
    expect_exit(child, 9);
    return argument;
}

int main(void) {
    pthread_t forker;
    CHECK(pipe(stop) == 0);
    for (int i = 0; i < 5; i++) {
        CHECK(pthread_create(&forker, NULL, do_fork, NULL) == 0 && pthread_join(forker, NULL) == 0);
    }
    pthread_t blocked[2];
    CHECK(pthread_create(&blocked[0], NULL, block, NULL) == 0 && pthread_create(&blocked[1], NULL, block, NULL) == 0);
    do_fork(NULL); /* while the others are blocked */
    write_all(stop[1], "yz", 2);
    CHECK(pthread_join(blocked[0], NULL) == 0 && pthread_join(blocked[1], NULL) == 0);
    printf("%d\n", getpid());
    return 0;
}

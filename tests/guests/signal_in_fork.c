/* A handler that forks, execs and waits. */
#include "guest.h"

static volatile sig_atomic_t answers;

static void on_usr(int signal) {
    (void)signal;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", "exit 6", NULL);
        _exit(1);
    }
    expect_exit(child, 6);
    answers++;
}

int main(void) {
    signal(SIGUSR1, on_usr);
    for (int i = 0; i < 5; i++) {
        CHECK(raise(SIGUSR1) == 0 && answers == i + 1);
    }
    printf("%d\n", getpid());
    return 0;
}

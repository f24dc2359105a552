/* A SIGCHLD handler that reaps, while the program waits in sigsuspend. */
#include "guest.h"

static volatile sig_atomic_t reaped;

static void on_child(int signal) {
    (void)signal;
    int saved = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
        reaped++;
    }
    errno = saved;
}

int main(void) {
    sigset_t block, old;
    sigemptyset(&block);
    sigaddset(&block, SIGCHLD);
    CHECK(sigprocmask(SIG_BLOCK, &block, &old) == 0);
    signal(SIGCHLD, on_child);
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (i % 2) {
                sleep_ms(3);
            }
            _exit(0);
        }
        while (reaped <= i) {
            CHECK(sigsuspend(&old) == -1 && errno == EINTR);
        }
    }
    CHECK(reaped == 10);
    printf("ten, pid %d\n", getpid());
    return 0;
}

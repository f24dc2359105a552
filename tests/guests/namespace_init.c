// guest: heavy
/* The first process of a pid namespace: signals that it does not handle have no effect on it, but a
 * fault kills it and all other processes of the namespace. If the system does not allow namespaces, the
 * guest is told so. */
#include "namespace.h"
#include <pthread.h>

static volatile int *const nothing = (int *)8;

static void *fault(void *arg) {
    *nothing = 1;
    return arg;
}

static int first(int kind) {
    CHECK(getpid() == 1);
    CHECK(kill(1, SIGTERM) == 0 && kill(1, SIGTSTP) == 0 && raise(SIGUSR1) == 0);
    dprintf(1, "alive\n");
    pid_t other = fork();
    CHECK(other >= 0);
    if (other == 0) {
        for (;;) {
            pause();
        }
    }
    pthread_t thread;
    switch (kind) {
    case 0:
        *nothing = 1;
        break;
    case 1:
        __builtin_trap();
        break;
    default:
        CHECK(pthread_create(&thread, NULL, fault, NULL) == 0);
        pthread_join(thread, NULL);
    }
    return 0;
}

int main(void) {
    static const int deaths[] = {SIGSEGV, SIGILL, SIGSEGV};
    for (int kind = 0; kind < 3; kind++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            pid_t init = fork_namespace();
            if (init == 0) {
                _exit(first(kind));
            }
            expect_death(init, deaths[kind]);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
        printf("%d: %d\n", kind, WEXITSTATUS(status));
        CHECK(WEXITSTATUS(status) < 2);
    }
    return 0;
}

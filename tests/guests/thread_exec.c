// guest: exit=13
/* A thread that is not the first executes another program: it takes over the pid, the others end. */
#include "guest.h"
#include <pthread.h>

static char *self;

static void *replace(void *argument) {
    char pid[16];
    (void)argument;
    CHECK(syscall(SYS_gettid) != getpid());
    snprintf(pid, sizeof pid, "%d", getpid());
    execl("/proc/self/exe", self, pid, NULL);
    CHECK(!"exec failed");
}

static void *wait_for_ever(void *argument) {
    pause();
    return argument;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        CHECK(getpid() == atoi(argv[1]) && syscall(SYS_gettid) == getpid());
        printf("now %d\n", getpid());
        return 13;
    }
    pthread_t thread;
    self = argv[0];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&thread, NULL, wait_for_ever, NULL) == 0);
    }
    CHECK(pthread_create(&thread, NULL, replace, NULL) == 0);
    pthread_join(thread, NULL);
    return 1;
}

// guest: heavy
/* exit_group from a thread while the leader, which has the lowest priority, is ready to run at a system
 * call. When the recorder looks for the next task, the leader is often on its way to its exit, but not
 * there yet: the recorder must not resume it as if nothing had happened. */
#include "guest.h"
#include <pthread.h>
#include <sched.h>

static void *rest(void *argument) {
    pause();
    return argument;
}

static void *leave(void *argument) {
    for (int i = 0; i < 3; i++) {
        sleep_ms(1);
        for (intptr_t k = 0; k < (intptr_t)argument; k++) {
            syscall(SYS_getppid);
        }
    }
    _exit(3);
}

int main(void) {
    int sum = 0;
    for (intptr_t i = 0; i < 12; i++) {
        int status;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            pthread_t thread;
            struct sched_param none = {0};
            for (int k = 0; k < 10; k++) {
                CHECK(pthread_create(&thread, NULL, rest, NULL) == 0);
            }
            CHECK(pthread_create(&thread, NULL, leave, (void *)(i % 7)) == 0);
            CHECK(sched_setscheduler(0, SCHED_IDLE, &none) == 0);
            for (;;) {
                syscall(SYS_getppid);
            }
        }
        CHECK(waitpid(child, &status, 0) == child);
        sum += WEXITSTATUS(status);
    }
    printf("%d\n", sum);
    return 0;
}

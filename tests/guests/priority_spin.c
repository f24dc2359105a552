// guest: heavy
/* A task of high priority waits in a loop for a lock that a task of low priority holds: with
 * sched_yield, and with calls that mean nothing to a scheduler. */
#include "guest.h"
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

static volatile int locked;
/* The round in which the lock was seen held. Without this, the lock could be released while the task
 * that must wait for it still sleeps, and the guest would never end. */
static volatile int seen;

static void *hold(void *unused) {
    (void)unused;
    CHECK(setpriority(PRIO_PROCESS, (id_t)gettid(), 10) == 0);
    for (int round = 1; round <= 2; round++) {
        locked = round;
        while (seen != round) {
            sleep_ms(1);
        }
        sleep_ms(2);
        for (int i = 0; i < 20; i++) {
            CHECK(getppid() >= 0);
        }
        locked = 0;
        while (locked != -round) {
            sleep_ms(1);
        }
    }
    return NULL;
}

int main(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, hold, NULL) == 0);
    long turns = 0;
    for (int round = 1; round <= 2; round++) {
        while (locked != round) {
            sleep_ms(1);
        }
        seen = round;
        while (locked) {
            turns++;
            CHECK(round == 1 ? sched_yield() == 0 : getppid() >= 0);
        }
        locked = -round;
    }
    CHECK(pthread_join(thread, NULL) == 0);
    printf("%ld turns\n", turns);
    return 0;
}

/* Calls that wait, and a signal that comes meanwhile: for guests that test all such calls.
 *
 * `interrupted(NAME, restarts, call, unblock)` makes `call` twice, and another process sends signals as soon
 * as it sees that the call waits (so the result does not depend on timing). Without SA_RESTART the call must fail with
 * EINTR at the first signal. With SA_RESTART it does so too unless the kernel restarts it
 * (`restarts`, see signal(7)); then the handler lets the call succeed at the third signal (`unblock`), and not before.
 */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include "guest.h"

static volatile sig_atomic_t signals;
static void (*volatile unblock_call)(void);
static int orders[2], answers[2];
static pid_t sender;

static void on_signal(int signal) {
    (void)signal;
    int saved = errno;
    if (++signals == 3) {
        unblock_call();
    }
    CHECK(write(answers[1], "s", 1) == 1);
    errno = saved;
}

static void start_sender(void) {
    CHECK(pipe(orders) == 0 && pipe(answers) == 0);
    pid_t parent = getpid();
    sender = fork();
    CHECK(sender >= 0);
    if (sender == 0) {
        close(orders[1]);
        char count, byte;
        while (read(orders[0], &count, 1) == 1) {
            while (count-- > 0) {
                wait_until_it_sleeps(parent);
                CHECK(kill(parent, SIGALRM) == 0);
                read_all(answers[0], &byte, 1);
            }
        }
        _exit(0);
    }
}

static void stop_sender(void) {
    CHECK(close(orders[1]) == 0);
    expect_exit(sender, 0);
}

static void interrupted(const char *name, int restarts, long (*call)(void), void (*unblock)(void)) {
    for (int restart = 0; restart < 2; restart++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = on_signal;
        action.sa_flags = restart ? SA_RESTART : 0;
        CHECK(sigaction(SIGALRM, &action, NULL) == 0);
        signals = 0;
        unblock_call = unblock;
        int succeeds = restart && restarts;
        char count = succeeds ? 3 : 1;
        CHECK(write(orders[1], &count, 1) == 1);
        errno = 0;
        long result = call();
        int error = errno;
        int ok = (succeeds ? result >= 0 : result == -1 && error == EINTR) && signals == count;
        if (!ok) {
            dprintf(2, "%s, restart %d: %ld, errno %d, %d signals\n", name, restart, result, error, (int)signals);
            _exit(98);
        }
    }
}

#endif

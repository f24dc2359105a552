/* Frozen forks are invisible: signals to a process group reach only its members, and a group whose
 * members are dead no longer exists. */
#include "guest.h"

static volatile sig_atomic_t terms;

static void on_term(int signal) {
    (void)signal;
    terms++;
}

int main(void) {
    CHECK(setpgid(0, 0) == 0); /* not the group of whoever started us */
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_term;
    CHECK(sigaction(SIGTERM, &action, NULL) == 0);
    for (int round = 0; round < 5; round++) {
        CHECK(kill(0, SIGTERM) == 0);
        CHECK(terms == round + 1);
    }
    for (int round = 0; round < 5; round++) {
        int ready[2];
        CHECK(pipe(ready) == 0);
        pid_t members[3];
        for (int i = 0; i < 3; i++) {
            members[i] = fork();
            CHECK(members[i] >= 0);
            if (members[i] == 0) {
                setpgid(0, i == 0 ? 0 : members[0]);
                write_all(ready[1], "r", 1);
                for (;;) {
                    pause();
                }
            }
            CHECK(setpgid(members[i], members[0]) == 0 || errno == EACCES);
        }
        char bytes[3];
        read_all(ready[0], bytes, 3);
        CHECK(kill(-members[0], SIGKILL) == 0);
        for (int i = 0; i < 3; i++) {
            expect_death(members[i], SIGKILL);
        }
        errno = 0;
        CHECK(kill(-members[0], 0) == -1 && errno == ESRCH);
        CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
        close(ready[0]);
        close(ready[1]);
    }
    CHECK(terms == 5);
    printf("group %d\n", getpgrp());
    return 0;
}

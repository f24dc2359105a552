/* The program and the recorder are in the process group that the program was started in: signals to the
 * whole group reach each of the program's processes once, and do not end the recording. If the group
 * has members depends only on the program's own processes. */
#include "guest.h"

static volatile sig_atomic_t terms, hups, users;
static volatile pid_t sender;

static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)context;
    sender = info->si_pid;
    CHECK(info->si_code == SI_USER);
    terms += signal == SIGTERM;
    hups += signal == SIGHUP;
    users += signal == SIGUSR1;
}

int main(void) {
    pid_t group = getpgrp();
    CHECK(group != getpid() || recorded() == 0);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    int ready[2];
    CHECK(pipe(ready) == 0);
    /* Without rr, a process that waits for us may be in our group, and must not get these signals. So
     * the guest makes a group of its own. */
    if (!recorded()) {
        CHECK(setpgid(0, 0) == 0);
        group = getpgrp();
    }
    CHECK(sigaction(SIGTERM, &action, NULL) == 0 && sigaction(SIGHUP, &action, NULL) == 0);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        write_all(ready[1], "r", 1);
        while (terms < 1 || hups < 1 || users < 1) {
            sleep_ms(1);
        }
        CHECK(sender == getppid());
        _exit(terms * 100 + hups * 10 + users);
    }
    char byte;
    read_all(ready[0], &byte, 1);
    CHECK(kill(0, SIGTERM) == 0 && terms == 1 && sender == getpid());
    CHECK(kill(-group, SIGHUP) == 0 && hups == 1);
    CHECK(kill(0, SIGUSR1) == 0 && users == 1);
    CHECK(kill(0, 0) == 0 && kill(-group, 0) == 0);
    CHECK(kill(0, 1000) == -1 && errno == EINVAL);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 111);
    CHECK(terms == 1 && hups == 1 && users == 1);
    /* After we have left the group, it is empty. */
    CHECK(setpgid(0, 0) == 0);
    if (recorded()) {
        CHECK(kill(-group, 0) == -1 && errno == ESRCH);
    }
    printf("%d\n", group);
    return 0;
}

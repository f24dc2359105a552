/* Frozen forks are invisible: exactly one SIGCHLD for each child, with the child's own pid and status. */
#include "guest.h"

static volatile sig_atomic_t count, last_pid, last_status, last_code;

static void on_child(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    count++;
    last_pid = info->si_pid;
    last_status = info->si_status;
    last_code = info->si_code;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_child;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            getppid();
            _exit(i);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == i);
        getppid();
        CHECK(count == i + 1);
        CHECK(last_pid == child && last_status == i && last_code == CLD_EXITED);
    }
    for (int i = 0; i < 50; i++) {
        getppid(); /* events, and perhaps snapshots, without any child */
    }
    CHECK(count == 20);
    printf("%d signals, the last for %d\n", (int)count, (int)last_pid);
    return 0;
}

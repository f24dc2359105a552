/* SA_NOCLDSTOP of a tracer: no SIGCHLD for stops of its tracee, but for its end; and with the flag gone, for stops again. */
#include "guest.h"
#include <sys/ptrace.h>

static volatile sig_atomic_t count, last_code;

static void on_child(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    count++;
    last_code = info->si_code;
}

static void handle(int flags) {
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | flags};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
}

/* The next stop or the end of the tracee. Signals of a tracee come before the result of the wait, or right after it. */
static int wait_for(pid_t child) {
    int status;
    pid_t got;
    while ((got = waitpid(child, &status, 0)) == -1) {
        CHECK(errno == EINTR);
    }
    CHECK(got == child);
    getppid();
    return status;
}

int main(void) {
    handle(SA_NOCLDSTOP);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        for (int i = 0; i < 6; i++) {
            CHECK(raise(SIGUSR1) == 0);
        }
        _exit(5);
    }
    for (int i = 0; i < 3; i++) {
        int status = wait_for(child);
        CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGUSR1);
        CHECK(count == 0);
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    }
    CHECK(wait_for(child) >> 8 == SIGUSR1 && count == 0);
    handle(0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(wait_for(child) >> 8 == SIGUSR1);
    CHECK(count == 1 && last_code == CLD_TRAPPED);
    handle(SA_NOCLDSTOP);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(wait_for(child) >> 8 == SIGUSR1 && count == 1);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    int status = wait_for(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    CHECK(count == 2 && last_code == CLD_EXITED);
    printf("%d signals of %d\n", (int)count, (int)child);
    return 0;
}

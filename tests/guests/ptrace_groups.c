/* Job control under a tracer: with PTRACE_SEIZE a group stop is reported, and PTRACE_LISTEN waits for
 * its end; with PTRACE_ATTACH the tracee continues at once. A task that is stopped when a tracer
 * attaches stays stopped. */
#include "tracing.h"
#include <sys/prctl.h>
#include <sys/ptrace.h>

static pid_t start(int out) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (char byte = 'a';; byte++) {
            write_all(out, &byte, 1);
            CHECK(kill(getpid(), SIGSTOP) == 0);
        }
    }
    return child;
}

static char heard(int in) {
    char byte;
    read_all(in, &byte, 1);
    return byte;
}

int main(void) {
    int out[2];
    CHECK(pipe(out) == 0);
    pid_t child = start(out[1]);
    int status;
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(heard(out[0]) == 'a');
    /* The child is stopped already. */
    CHECK(ptrace(PTRACE_SEIZE, child, 0, 0) == 0);
    CHECK(wait_for_stop(child) == (SIGSTOP | PTRACE_EVENT_STOP << 8));
    siginfo_t info;
    CHECK(ptrace(PTRACE_LISTEN, child, 0, 0) == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == -1 && errno == ESRCH);
    CHECK(kill(child, SIGCONT) == 0);
    CHECK(wait_for_stop(child) == (SIGTRAP | PTRACE_EVENT_STOP << 8));
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(wait_for_stop(child) == SIGCONT);
    CHECK(ptrace(PTRACE_CONT, child, 0, SIGCONT) == 0);
    /* The child stops itself: first the signal is reported, then the group stop. */
    CHECK(wait_for_stop(child) == SIGSTOP);
    CHECK(heard(out[0]) == 'b');
    CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &info) == 0 && info.si_signo == SIGSTOP);
    CHECK(info.si_code == SI_USER ? info.si_pid == child : info.si_pid == 0);
    CHECK(ptrace(PTRACE_LISTEN, child, 0, 0) == -1 && errno == EIO);
    CHECK(ptrace(PTRACE_CONT, child, 0, SIGSTOP) == 0);
    CHECK(wait_for_stop(child) == (SIGSTOP | PTRACE_EVENT_STOP << 8));
    CHECK(ptrace(PTRACE_LISTEN, child, 0, 0) == 0);
    CHECK(waitpid(child, &status, WNOHANG | __WALL) == 0);
    CHECK(kill(child, SIGCONT) == 0);
    CHECK(wait_for_stop(child) == (SIGTRAP | PTRACE_EVENT_STOP << 8));
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(wait_for_stop(child) == SIGCONT);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    /* The tracer suppresses the stop: the child continues. */
    CHECK(wait_for_stop(child) == SIGSTOP);
    CHECK(heard(out[0]) == 'c');
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(wait_for_stop(child) == SIGSTOP);
    CHECK(heard(out[0]) == 'd');
    CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(heard(out[0]) == 'e');
    CHECK(kill(child, SIGKILL) == 0);
    expect_death(child, SIGKILL);
    printf("%d\n", child);
    return 0;
}

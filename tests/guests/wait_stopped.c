/* A child stops and continues itself; the parent sees each step. */
#include "guest.h"

int main(void) {
    int gate[2];
    CHECK(pipe(gate) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        raise(SIGSTOP);
        dprintf(1, "%d continued\n", getpid());
        char byte;
        read_all(gate[0], &byte, 1);
        _exit(5);
    }
    int status;
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(waitpid(child, &status, WUNTRACED | WCONTINUED | WNOHANG) == 0);
    CHECK(kill(child, SIGCONT) == 0);
    CHECK(waitpid(child, &status, WCONTINUED) == child);
    CHECK(WIFCONTINUED(status));
    write_all(gate[1], "x", 1);
    expect_exit(child, 5);
    return 0;
}

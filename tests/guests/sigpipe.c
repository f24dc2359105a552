// guest: signal=13
/* SIGPIPE: handled, ignored, and at last deadly. */
#include "guest.h"

static volatile sig_atomic_t count;

static void on_pipe(int signal) {
    (void)signal;
    count++;
}

int main(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    close(ends[0]);
    signal(SIGPIPE, on_pipe);
    CHECK(write(ends[1], "x", 1) == -1 && errno == EPIPE && count == 1);
    signal(SIGPIPE, SIG_IGN);
    CHECK(write(ends[1], "x", 1) == -1 && errno == EPIPE && count == 1);
    signal(SIGPIPE, SIG_DFL);
    dprintf(1, "pid %d writes for the last time\n", getpid());
    (void)!write(ends[1], "x", 1);
    return 0;
}

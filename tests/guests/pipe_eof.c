/* Frozen forks are invisible: a pipe reaches its end, although its writer may have been snapshotted, and a
 * write to a pipe without readers fails, although its reader may have been. */
#include "guest.h"

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    for (int round = 0; round < 10; round++) {
        int ends[2];
        CHECK(pipe(ends) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            close(ends[0]);
            for (int i = 0; i < 5; i++) {
                dprintf(ends[1], "%d", i);
            }
            _exit(0);
        }
        close(ends[1]);
        char text[16];
        size_t got = 0;
        ssize_t n;
        while ((n = read(ends[0], text + got, 1)) == 1) { /* blocks for ever if somebody else holds the end */
            got++;
        }
        CHECK(n == 0 && got == 5);
        close(ends[0]);
        expect_exit(child, 0);

        /* In one process: */
        CHECK(pipe(ends) == 0);
        write_all(ends[1], "x", 1);
        close(ends[1]);
        CHECK(read(ends[0], text, 2) == 1);
        CHECK(read(ends[0], text, 2) == 0);
        close(ends[0]);
        CHECK(pipe(ends) == 0);
        close(ends[0]);
        errno = 0;
        CHECK(write(ends[1], "x", 1) == -1 && errno == EPIPE);
        close(ends[1]);
    }
    puts("all ends seen");
    return 0;
}

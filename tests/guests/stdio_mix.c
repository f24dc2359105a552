/* Standard output and error: mixed, duplicated, passed to children, taken away and restored. The output
 * of a replay must contain everything that went to the two streams, and nothing that went elsewhere. */
#include "guest.h"

int main(void) {
    for (int i = 0; i < 10; i++) {
        dprintf(1, "out %d\n", i);
        dprintf(2, "err %d\n", i);
    }
    int copy = dup(1), high = fcntl(2, F_DUPFD_CLOEXEC, 200);
    CHECK(copy > 2 && high >= 200);
    dprintf(copy, "by a duplicate of 1\n");
    dprintf(high, "by a duplicate of 2\n");

    int file = open("elsewhere", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0);
    CHECK(dup2(file, 1) == 1);
    dprintf(1, "into the file, by descriptor 1\n");
    dprintf(copy, "shown, by the duplicate\n");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dprintf(1, "child, into the file\n");
        dprintf(copy, "child %d, shown\n", getpid());
        CHECK(dup2(2, 1) == 1);
        dprintf(1, "child, shown on the error stream\n");
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(dup2(copy, 1) == 1);
    close(copy);
    dprintf(1, "shown again\n");
    char text[100];
    ssize_t n = pread(file, text, sizeof text, 0);
    CHECK(n == 31 + 21);

    int ends[2];
    CHECK(pipe(ends) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(ends[1], 1);
        dprintf(1, "through the pipe");
        _exit(0);
    }
    close(ends[1]);
    read_all(ends[0], text, 16);
    expect_exit(child, 0);
    dprintf(1, "got: %.16s\n", text);
    unlink("elsewhere");
    return 0;
}

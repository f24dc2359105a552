/* Named pipes: opening one blocks until the other side opens it too. */
#include "guest.h"

int main(void) {
    CHECK(mkfifo("fifo", 0600) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int out = open("fifo", O_WRONLY);
        CHECK(out >= 0);
        dprintf(out, "from %d", getpid());
        _exit(0);
    }
    int in = open("fifo", O_RDONLY);
    CHECK(in >= 0);
    char text[64] = "";
    size_t got = 0;
    ssize_t n;
    while ((n = read(in, text + got, sizeof text - 1 - got)) > 0) {
        got += (size_t)n;
    }
    CHECK(n == 0 && got > 5);
    puts(text);
    expect_exit(child, 0);
    CHECK(unlink("fifo") == 0);
    return 0;
}

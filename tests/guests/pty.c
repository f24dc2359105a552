// guest: cflags=-lutil
/* A pseudo-terminal with a child on it: sizes, modes, echo, and what the child writes. */
#include "guest.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

int main(void) {
    int master;
    struct winsize size = {.ws_row = 33, .ws_col = 77};
    struct termios modes;
    memset(&modes, 0, sizeof modes);
    cfmakeraw(&modes);
    pid_t child = forkpty(&master, NULL, &modes, &size);
    CHECK(child >= 0);
    if (child == 0) {
        struct winsize seen;
        if (ioctl(0, TIOCGWINSZ, &seen) != 0 || !isatty(1)) {
            _exit(1);
        }
        char line[16];
        read_all(0, line, 6);
        dprintf(1, "%d rows, got %.5s, pid %d\n", seen.ws_row, line, getpid());
        read_all(0, line, 1); /* until the other side has read everything */
        _exit(seen.ws_col);
    }
    write_all(master, "hello\n", 6);
    char text[128] = "";
    size_t got = 0;
    while (strchr(text, '\n') == NULL) {
        ssize_t n = read(master, text + got, sizeof text - 1 - got);
        CHECK(n > 0);
        got += (size_t)n;
    }
    write_all(master, "x", 1);
    printf("%s", text);
    CHECK(strncmp(text, "33 rows, got hello", 18) == 0);
    expect_exit(child, 77);
    CHECK(read(master, text, 1) == -1 && errno == EIO);
    return 0;
}

// guest: cflags=-lutil
/* A session on a terminal with a foreground and a background job, as a shell makes them: which job may
 * read, which job gets ^C and ^Z, and which job is told that the window changed. */
#include "guest.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile sig_atomic_t resized;

static void on_resize(int signal) {
    (void)signal;
    resized++;
}

/* A child in a group of its own that reads a line from the terminal and answers. */
static pid_t job(int foreground) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(setpgid(0, 0) == 0);
        if (foreground) {
            signal(SIGTTOU, SIG_IGN);
            CHECK(tcsetpgrp(0, getpid()) == 0);
            signal(SIGTTOU, SIG_DFL);
        }
        char line[64];
        ssize_t n = read(0, line, sizeof line - 1); /* in the background: SIGTTIN stops it here */
        CHECK(n > 0);
        line[n] = 0;
        dprintf(1, "<%s>", line);
        pause();
        _exit(1);
    }
    setpgid(child, child);
    return child;
}

static void leader(void) {
    int status;
    signal(SIGTTOU, SIG_IGN);
    CHECK(getsid(0) == getpid() && tcgetpgrp(0) == getpid());
    dprintf(1, "<ready>");
    pid_t first = job(1);
    CHECK(waitpid(first, &status, WUNTRACED) == first && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
    CHECK(tcsetpgrp(0, getpid()) == 0 && tcgetpgrp(0) == getpid());
    pid_t second = job(0);
    CHECK(waitpid(second, &status, WUNTRACED) == second && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
    CHECK(tcsetpgrp(0, second) == 0 && kill(-second, SIGCONT) == 0);
    expect_death(second, SIGINT);
    CHECK(tcsetpgrp(0, getpid()) == 0 && kill(-first, SIGKILL) == 0);
    expect_death(first, SIGKILL);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_resize;
    CHECK(sigaction(SIGWINCH, &action, NULL) == 0);
    dprintf(1, "<resize>");
    while (!resized) {
        sleep_ms(1);
    }
    struct winsize size;
    CHECK(ioctl(0, TIOCGWINSZ, &size) == 0 && size.ws_row == 50 && size.ws_col == 132);
    _exit(9);
}

/* Reads until `text` has come; later output stays for the next call. */
static void expect(int master, const char *text) {
    static char got[512];
    static size_t length;
    char *at;
    while ((at = strstr(got, text)) == NULL) {
        CHECK(length < sizeof got - 1);
        ssize_t n = read(master, got + length, sizeof got - 1 - length);
        CHECK(n > 0);
        length += (size_t)n;
        got[length] = 0;
    }
    at += strlen(text);
    length -= (size_t)(at - got);
    memmove(got, at, length + 1);
    printf("%s", text);
    fflush(stdout);
}

int main(void) {
    int master;
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    pid_t child = forkpty(&master, NULL, NULL, &size);
    CHECK(child >= 0);
    if (child == 0) {
        leader();
    }
    expect(master, "<ready>");
    write_all(master, "one\n", 4);
    expect(master, "<one\r\n>"); /* as the terminal writes the end of a line */
    write_all(master, "\032", 1); /* ^Z */
    write_all(master, "two\n", 4);
    expect(master, "<two\r\n>");
    write_all(master, "\003", 1); /* ^C */
    expect(master, "<resize>");
    size.ws_row = 50;
    size.ws_col = 132;
    CHECK(ioctl(master, TIOCSWINSZ, &size) == 0);
    expect_exit(child, 9);
    return 0;
}

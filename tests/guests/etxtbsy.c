/* Frozen forks are invisible: an executable can be written to once the process that ran it has ended. */
#include "guest.h"

int main(int argc, char **argv) {
    if (argc > 1) {
        getppid();
        getppid();
        printf("copy runs as %d\n", getpid());
        return 3;
    }
    int in = open("/proc/self/exe", O_RDONLY), out = open("copy", O_WRONLY | O_CREAT | O_TRUNC, 0700);
    CHECK(in >= 0 && out >= 0);
    static char buffer[1 << 16];
    ssize_t n;
    while ((n = read(in, buffer, sizeof buffer)) > 0) {
        write_all(out, buffer, (size_t)n);
    }
    close(in);
    close(out);
    for (int round = 0; round < 5; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            execl("./copy", argv[0], "run", NULL);
            _exit(1);
        }
        expect_exit(child, 3);
        out = open("copy", O_WRONLY);
        CHECK(out >= 0);
        close(out);
    }
    CHECK(unlink("copy") == 0);
    return 0;
}

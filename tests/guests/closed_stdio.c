/* A file that gets descriptor 1 because 1 was closed is not standard output. */
#include "guest.h"

int main(void) {
    dprintf(1, "before\n");
    dprintf(2, "before, error\n");
    CHECK(close(0) == 0 && close(1) == 0);
    CHECK(open("/dev/null", O_RDONLY) == 0);
    CHECK(open("not-output", O_RDWR | O_CREAT | O_TRUNC, 0600) == 1);
    CHECK(write(1, "hidden\n", 7) == 7);
    char text[8];
    CHECK(pread(1, text, 7, 0) == 7 && memcmp(text, "hidden\n", 7) == 0);
    dprintf(2, "still on the error stream\n");
    CHECK(close(2) == 0);
    CHECK(write(2, "nowhere", 7) == -1 && errno == EBADF);
    unlink("not-output");
    return 0;
}

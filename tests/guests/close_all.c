/* A program closes all descriptors, including the recorder's own if the recorder had one in this
 * process. */
#include "guest.h"

int main(void) {
    dprintf(1, "closing\n");
    int probe = open("/dev/null", O_RDONLY);
    CHECK(probe == 3); /* nothing but 0, 1, 2 was open */
    for (int fd = 3; fd < 1024; fd++) {
        close(fd);
    }
    CHECK(syscall(SYS_close_range, 3u, ~0u, 0u) == 0);
    for (int fd = 3; fd < 20; fd++) {
        CHECK(open("/dev/null", O_RDONLY) == fd);
    }
    dprintf(1, "fine\n");
    CHECK(syscall(SYS_close_range, 0u, ~0u, 0u) == 0);
    struct stat info;
    CHECK(fstat(1, &info) == -1 && errno == EBADF);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        _exit(4);
    }
    expect_exit(child, 4);
    return 0;
}

/* Frozen forks are invisible in /proc: the kernel's list of our children contains our child and no
 * other. */
#include "guest.h"

static int children(char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        return -1; /* a kernel without the file */
    }
    ssize_t n = read(fd, text, size - 1);
    CHECK(n >= 0);
    text[n] = 0;
    close(fd);
    int count = 0;
    for (char *c = text; *c; c++) {
        count += *c == ' ';
    }
    return count;
}

int main(void) {
    char text[256];
    for (int i = 0; i < 10; i++) {
        CHECK(children(text, sizeof text) <= 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            pause();
            _exit(0);
        }
        CHECK(children(text, sizeof text) <= 1);
        printf("%s\n", text);
        CHECK(kill(child, SIGKILL) == 0);
        expect_death(child, SIGKILL);
    }
    return 0;
}

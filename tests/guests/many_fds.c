/* A process that uses 300 descriptors at once. */
#include "guest.h"

int main(void) {
    int fds[300];
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "many-%d", i);
        fds[i] = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        CHECK(fds[i] >= 0);
        CHECK(dprintf(fds[i], "%d %d\n", getpid(), i) > 0);
    }
    uint64_t sum = 0;
    for (int i = 0; i < 300; i++) {
        char text[32], name[32];
        ssize_t n = pread(fds[i], text, sizeof text, 0);
        CHECK(n > 0);
        sum = sum * 31 + checksum(text, (size_t)n);
        snprintf(name, sizeof name, "many-%d", i);
        CHECK(unlink(name) == 0);
        CHECK(close(fds[i]) == 0);
    }
    printf("highest %d, %016llx\n", fds[299], (unsigned long long)sum);
    return 0;
}

/* getrandom in several sizes, /dev/urandom, AT_RANDOM, and a UUID from proc. */
#include "guest.h"
#include <sys/auxv.h>
#include <sys/random.h>

static void show(const char *what, const unsigned char *bytes, size_t length) {
    printf("%s:", what);
    for (size_t i = 0; i < length && i < 32; i++) {
        printf(" %02x", bytes[i]);
    }
    printf(" (%016llx)\n", (unsigned long long)checksum(bytes, length));
}

int main(void) {
    static unsigned char bytes[70000], other[70000];
    CHECK(getrandom(bytes, 1, 0) == 1);
    show("1", bytes, 1);
    CHECK(getrandom(bytes, 16, GRND_NONBLOCK) == 16);
    show("16", bytes, 16);
    CHECK(getrandom(bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes);
    show("70000", bytes, sizeof bytes);
    int fd = open("/dev/urandom", O_RDONLY);
    CHECK(fd >= 0);
    read_all(fd, other, sizeof other);
    show("urandom", other, sizeof other);
    CHECK(memcmp(bytes, other, sizeof bytes) != 0);
    close(fd);
    show("AT_RANDOM", (const unsigned char *)getauxval(AT_RANDOM), 16);
    fd = open("/proc/sys/kernel/random/uuid", O_RDONLY);
    if (fd >= 0) {
        ssize_t n = read(fd, bytes, 64);
        CHECK(n > 30);
        show("uuid", bytes, (size_t)n);
    }
    return 0;
}

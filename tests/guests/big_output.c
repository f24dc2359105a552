/* Over a megabyte of output in writes of very different sizes. */
#include "guest.h"
#include <sys/uio.h>

int main(void) {
    uint64_t seed = fresh_seed();
    static char text[300001];
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = i % 64 == 63 ? '\n' : (char)('a' + next_random(&seed) % 26);
    }
    write_all(1, text, sizeof text);
    for (size_t at = 0; at < 20000; at += 64) {
        write_all(1, text + at, 64);
    }
    struct iovec parts[40];
    for (int i = 0; i < 40; i++) {
        parts[i].iov_base = text + 1000 * i;
        parts[i].iov_len = (size_t)(100 * i);
    }
    CHECK(writev(1, parts, 40) > 0);
    CHECK(write(1, text, 0) == 0);
    write_all(1, text, sizeof text);
    write_all(1, text, sizeof text);
    printf("%016llx\n", (unsigned long long)checksum(text, sizeof text));
    return 0;
}

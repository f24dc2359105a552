/* Bytes that reach standard output without having been in memory (splice, tee), by a program that falls back to reading and
 * writing: replay shows them, too. */
#define _GNU_SOURCE
#include "guest.h"

/* Moves all that is in a pipe to a descriptor. */
static void move(int from, int to, size_t len) {
    long moved = splice(from, NULL, to, NULL, len, 0);
    if (moved < 0) {
        char bytes[256];
        CHECK(errno == EINVAL && len <= sizeof bytes);
        read_all(from, bytes, len);
        write_all(to, bytes, len);
        return;
    }
    CHECK((size_t)moved == len);
}

int main(void) {
    int one[2], two[2];
    CHECK(pipe(one) == 0 && pipe(two) == 0);
    for (int i = 0; i < 3; i++) {
        write_all(one[1], "moved\n", 6);
        move(one[0], STDOUT_FILENO, 6);
        write_all(one[1], "errors\n", 7);
        move(one[0], STDERR_FILENO, 7);
        /* Between other pipes nothing changes. */
        write_all(one[1], "twice\n", 6);
        CHECK(tee(one[0], two[1], 6, 0) == 6);
        CHECK(splice(one[0], NULL, two[1], NULL, 6, 0) == 6);
        move(two[0], STDOUT_FILENO, 12);
    }
    return 0;
}

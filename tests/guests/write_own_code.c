/* Writes its own memory to a file, to a pipe and in a vector: its code and that of its libraries (where
 * rr has rewritten system calls), its stack, its heap, and all other memory that `/proc/self/maps`
 * shows as readable. */
#include "guest.h"
#include <sys/uio.h>

static int out, ends[2];
static unsigned char drained[4096];

static void put(unsigned char *at, size_t length) {
    ssize_t n = write(out, at, length);
    CHECK(n == (ssize_t)length || (n == -1 && errno == EFAULT) || (n > 0 && n < (ssize_t)length));
    struct iovec pieces[2] = {{at, 100}, {at + length - 100, 100}};
    n = writev(out, pieces, 2);
    CHECK(n > 0 || errno == EFAULT);
    n = write(ends[1], at, 4096);
    if (n > 0) {
        CHECK(read(ends[0], drained, 4096) == n);
    }
}

int main(void) {
    out = open("memory", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(out >= 0 && pipe(ends) == 0);
    for (int round = 0; round < 3; round++) {
        FILE *maps = fopen("/proc/self/maps", "r");
        CHECK(maps != NULL);
        char line[512];
        while (fgets(line, sizeof line, maps) != NULL) {
            unsigned long start, end;
            char rights[8];
            CHECK(sscanf(line, "%lx-%lx %7s", &start, &end, rights) == 3);
            if (rights[0] != 'r' || strstr(line, "[v") != NULL) {
                continue;
            }
            CHECK(lseek(out, 0, SEEK_SET) == 0);
            put((unsigned char *)start, end - start);
        }
        fclose(maps);
    }
    /* Memory that does not exist. */
    volatile uintptr_t nowhere = 16;
    CHECK(write(out, (void *)nowhere, 100) == -1 && errno == EFAULT);
    CHECK(write(open("/dev/null", O_WRONLY), (void *)nowhere, 100) == 100);
    return 0;
}

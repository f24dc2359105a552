/* A read-only shared mapping of a file that is rewritten with write(): the mapping shows it. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    int fd = open("log", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
    char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    for (int i = 0; i < 10; i++) {
        char text[64];
        int n = snprintf(text, sizeof text, "%d of %d at %ld\n", i, getpid(), (long)time(NULL));
        CHECK(pwrite(fd, text, (size_t)n, i * 100) == n);
        CHECK(memcmp(map + i * 100, text, (size_t)n) == 0);
    }
    CHECK(ftruncate(fd, 100) == 0);
    CHECK(map[100] == 0 && map[0] == '0');
    printf("%016llx\n", (unsigned long long)checksum(map, 4096));
    CHECK(unlink("log") == 0);
    return 0;
}

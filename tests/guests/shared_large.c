// guest: special
/* A large file mapped shared and read-only, and some system calls (program "costs nothing at checkpoints"). */
#include "guest.h"
#include <sys/mman.h>

enum { LENGTH = 32 << 20 };

int main(void) {
    uint64_t seed = fresh_seed();
    static unsigned char piece[1 << 20];
    int fd = open("large", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    for (int at = 0; at < LENGTH; at += (int)sizeof piece) {
        fill_random(piece, sizeof piece, &seed);
        write_all(fd, piece, sizeof piece);
    }
    unsigned char *map = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED && unlink("large") == 0);
    for (int i = 0; i < 40; i++) {
        getppid();
    }
    printf("%016llx\n", (unsigned long long)checksum(map + LENGTH - 4096, 4096));
    return 0;
}

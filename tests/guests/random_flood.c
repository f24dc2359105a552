// guest: special
/* 64 MiB of random bytes by system calls: a recording must store them and cannot compress them. */
#include "guest.h"

int main(void) {
    static unsigned char block[1 << 16];
    for (int i = 0; i < 1024; i++) {
        CHECK(syscall(SYS_getrandom, block, sizeof block, 0) == (long)sizeof block);
        if (i % 16 == 0) {
            dprintf(1, "%d %016llx\n", i, (unsigned long long)checksum(block, sizeof block));
        }
    }
    return 0;
}

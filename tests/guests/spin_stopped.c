// guest: special
/* Computes for some tenths of a second without system calls; stopped and continued from outside meanwhile. */
#include "guest.h"

int main(void) {
    uint64_t product = 3;
    dprintf(1, "%d\n", getpid());
    for (int i = 0; i < 150000000; i++) {
        product = product * 6364136223846793005u + 1;
    }
    dprintf(1, "%llx\n", (unsigned long long)product);
    return 5;
}

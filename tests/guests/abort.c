// guest: signal=6
/* abort() blocks, raises and unblocks: death by a signal sent to oneself. */
#include "guest.h"

int main(void) {
    printf("%ld\n", (long)time(NULL));
    fflush(stdout);
    abort();
}

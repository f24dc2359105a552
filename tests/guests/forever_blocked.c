// guest: special
/* Prints its pid and then waits in one blocking read until somebody kills it. */
#include "guest.h"

int main(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    dprintf(1, "pid %d\n", getpid());
    char byte;
    CHECK(read(ends[0], &byte, 1) == 1);
    return 1;
}

// guest: special
/* Prints its pid and then sleeps in short steps until somebody kills it (program "killed from outside"). */
#include "guest.h"

int main(void) {
    dprintf(1, "pid %d\n", getpid());
    for (;;) {
        sleep_ms(5);
        dprintf(1, "%ld\n", (long)clock());
    }
}

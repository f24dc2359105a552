// guest: signal=9
/* kill(0, SIGKILL): the whole group dies, the sender too. */
#include "guest.h"

int main(void) {
    CHECK(setpgid(0, 0) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (;;) {
            pause();
        }
    }
    dprintf(1, "group %d with %d\n", getpgrp(), child);
    kill(0, SIGKILL);
    return 0;
}

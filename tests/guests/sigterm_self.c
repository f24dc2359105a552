// guest: signal=15
/* Death by a signal whose default is to terminate, sent with kill. */
#include "guest.h"

int main(void) {
    write_all(1, "before\n", 7);
    kill(getpid(), SIGTERM);
    write_all(1, "after\n", 6);
    return 0;
}

// guest: signal=9
/* A process that kills itself with a signal that nothing can catch. */
#include "guest.h"

int main(void) {
    write_all(1, "kill\n", 5);
    raise(SIGKILL);
    return 0;
}

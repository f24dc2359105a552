// guest: signal=8
/* Death by an integer division by zero. */
#include "guest.h"

int main(void) {
    volatile int zero = 0;
    write_all(1, "1/0\n", 4);
    return 1000 / zero;
}

// guest: signal=4
/* Death by an undefined instruction. */
#include "guest.h"

int main(void) {
    write_all(1, "ud2\n", 4);
    __asm__ volatile("ud2");
    return 0;
}

// guest: special cflags=-static,-no-pie,-Xlinker,-Ttext-segment=0x70000000
/* A program linked to where rr has its own pages. */
#include "guest.h"

int main(void) {
    puts("here");
    return 0;
}

// guest: special cflags=-static,-no-pie,-Xlinker,-Ttext-segment=0x70000000
/* A program linked to the addresses of rr's own pages. */
#include "guest.h"

int main(void) {
    puts("here");
    return 0;
}

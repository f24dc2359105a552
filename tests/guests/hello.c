/* The simplest program: one line, status 0. */
#include "guest.h"

int main(void) {
    puts("hello, world");
    return 0;
}

// guest: special cflags=-O0
/* Adds numbers, for debuggers that are recorded themselves: a function to stop in, a variable to watch. */
#include "guest.h"

int total;

int add(int n) {
    int before = total;
    total = before + n;
    return total;
}

int main(void) {
    total = 100;
    for (int i = 1; i < 5; i++) {
        add(i);
    }
    printf("the sum is %d\n", total);
    return 0;
}

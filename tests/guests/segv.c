// guest: signal=11
/* Death by a fault without a handler. */
#include "guest.h"

int main(void) {
    printf("main at %p\n", (void *)(uintptr_t)main);
    fflush(stdout);
    volatile int *null = (int *)(uintptr_t)16;
    *null = 1;
    return 0;
}

// guest: heavy
/* Fifty children one after the other, then ten at once. */
#include "guest.h"

int main(void) {
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            _exit(i);
        }
        expect_exit(child, i);
    }
    pid_t children[10];
    for (int i = 0; i < 10; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            dprintf(1, "%d is %d\n", i, getpid());
            _exit(100 + i);
        }
    }
    for (int i = 9; i >= 0; i--) {
        expect_exit(children[i], 100 + i);
    }
    return 0;
}

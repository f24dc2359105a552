/* When it ends, leaves a dead child unreaped and a sleeping child alive. */
#include "guest.h"

int main(void) {
    int ready[2];
    CHECK(pipe2(ready, O_CLOEXEC) == 0);
    pid_t dead = fork();
    CHECK(dead >= 0);
    if (dead == 0) {
        _exit(1);
    }
    pid_t sleeper = fork();
    CHECK(sleeper >= 0);
    if (sleeper == 0) {
        write_all(ready[1], "r", 1);
        sleep_ms(20);
        _exit(2);
    }
    char byte;
    read_all(ready[0], &byte, 1);
    printf("leaving %d and %d behind\n", dead, sleeper);
    return 0;
}

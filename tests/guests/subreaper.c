/* Orphans get a subreaper as parent, which reaps them with wait; frozen forks of dead processes do not. */
#include "guest.h"
#include <sys/prctl.h>

int main(void) {
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    for (int round = 0; round < 5; round++) {
        int note[2];
        CHECK(pipe(note) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            pid_t parent = getpid(), orphan = fork();
            CHECK(orphan >= 0);
            if (orphan == 0) {
                while (getppid() == parent) {
                    sleep_ms(1);
                }
                dprintf(1, "%d now has parent %d\n", getpid(), getppid());
                _exit(8);
            }
            write_all(note[1], &orphan, sizeof orphan);
            _exit(7);
        }
        pid_t orphan;
        read_all(note[0], &orphan, sizeof orphan);
        expect_exit(child, 7);
        int status;
        CHECK(waitpid(-1, &status, __WALL) == orphan);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 8);
        CHECK(waitpid(-1, &status, __WALL | WNOHANG) == -1 && errno == ECHILD);
        close(note[0]);
        close(note[1]);
    }
    return 0;
}

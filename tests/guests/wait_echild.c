/* Frozen forks are invisible: after its children are reaped, no kind of wait finds another one. */
#include "guest.h"

int main(void) {
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            getppid();
            getppid();
            _exit(round);
        }
        expect_exit(child, round);
        int status;
        errno = 0;
        CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
        CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
        CHECK(waitpid(-1, &status, WNOHANG | __WALL) == -1 && errno == ECHILD);
        CHECK(waitpid(-1, &status, WNOHANG | __WCLONE) == -1 && errno == ECHILD);
        siginfo_t info;
        CHECK(waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WCONTINUED | WNOHANG | __WALL) == -1);
        CHECK(errno == ECHILD);
    }
    printf("none, said %d\n", getpid());
    return 0;
}

/* wait, waitpid, wait4 and waitid in their variants; every result is for a child of ours, in full. */
#include "guest.h"
#include <sys/resource.h>

static pid_t start(int status, int ready) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (ready >= 0) {
            char byte;
            CHECK(read(ready, &byte, 1) == 1);
        }
        _exit(status);
    }
    return child;
}

int main(void) {
    int gate[2], status = 0;
    struct rusage usage;
    siginfo_t info;
    CHECK(pipe(gate) == 0);
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);

    pid_t child = start(1, gate[0]); /* held back: WNOHANG has nothing */
    CHECK(waitpid(child, &status, WNOHANG) == 0);
    CHECK(wait4(-1, &status, WNOHANG | __WALL, &usage) == 0);
    memset(&info, 0x55, sizeof info);
    CHECK(waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0);
    CHECK(info.si_pid == 0);
    write_all(gate[1], "x", 1);
    CHECK(wait4(child, &status, 0, &usage) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    printf("rusage %ld.%06ld\n", (long)usage.ru_stime.tv_sec, (long)usage.ru_stime.tv_usec);

    child = start(2, -1);
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0);
    CHECK(info.si_pid == child && info.si_code == CLD_EXITED && info.si_status == 2);
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED) == 0);
    CHECK(info.si_pid == child && info.si_signo == SIGCHLD);
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED) == -1 && errno == ECHILD);

    child = start(3, -1);
    CHECK(wait4(-1, &status, __WALL, NULL) == child);
    CHECK(WEXITSTATUS(status) == 3);
    child = start(4, -1);
    CHECK(waitpid(0, &status, 0) == child); /* any of our process group */
    CHECK(WEXITSTATUS(status) == 4);
    child = start(5, -1);
    CHECK(waitpid(-getpgrp(), NULL, 0) == child);
    child = start(6, -1);
    CHECK(waitid(P_PGID, (id_t)getpgrp(), NULL, WEXITED) == 0);

    pid_t group[5];
    for (int i = 0; i < 5; i++) {
        group[i] = start(10 + i, -1);
    }
    for (int i = 0; i < 5; i++) {
        pid_t pid = wait(&status);
        int known = 0;
        for (int k = 0; k < 5; k++) {
            if (group[k] == pid) {
                CHECK(WEXITSTATUS(status) == 10 + k);
                group[k] = 0;
                known = 1;
            }
        }
        CHECK(known);
    }
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    printf("last %d\n", child);
    return 0;
}

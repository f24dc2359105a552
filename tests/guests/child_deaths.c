/* Children that die in different ways, as the parent sees it. */
#include "guest.h"
#include <sys/resource.h>

int main(void) {
    static const int signals[] = {SIGKILL, SIGTERM, SIGSEGV, SIGABRT, SIGILL, SIGFPE, SIGPIPE, SIGUSR1, 40};
    struct rlimit none = {0, 0};
    CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (signals[i] == SIGSEGV) {
                *(volatile int *)(uintptr_t)8 = 1;
            } else if (signals[i] == SIGABRT) {
                abort();
            } else {
                kill(getpid(), signals[i]);
            }
            _exit(0);
        }
        siginfo_t info;
        CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0);
        CHECK(info.si_code == CLD_KILLED && info.si_status == signals[i] && info.si_pid == child);
        expect_death(child, signals[i]);
        printf("%d died of %d\n", child, signals[i]);
    }
    /* Killed while blocked, by the parent. */
    int ends[2];
    CHECK(pipe(ends) == 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        CHECK(read(ends[0], &byte, 1) == 1);
        _exit(0);
    }
    sleep_ms(5);
    CHECK(kill(child, SIGKILL) == 0);
    expect_death(child, SIGKILL);
    CHECK(kill(child, 0) == -1 && errno == ESRCH);
    return 0;
}

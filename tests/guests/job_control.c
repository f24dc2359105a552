/* A parent follows its child through stops and continues: which signal stopped the child, how often a
 * stop is reported, and by which calls. */
#include "guest.h"

static volatile sig_atomic_t children, conts, stops;

static void on_child(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    children++;
    if (info->si_code == CLD_STOPPED) {
        stops++;
    } else if (info->si_code == CLD_CONTINUED) {
        conts++;
    }
}

static void on_cont(int signal) {
    (void)signal;
    conts++;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_child;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    static const int kinds[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    int gate[2], back[2];
    CHECK(pipe(gate) == 0 && pipe(back) == 0);
    CHECK(setpgid(0, 0) == 0 || errno == EPERM);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        signal(SIGCONT, on_cont);
        CHECK(setpgid(0, 0) == 0);
        for (int i = 0; i < 4; i++) {
            CHECK(raise(kinds[i]) == 0);
            while (conts <= i) {
            }
            dprintf(1, "%d on again after %d\n", getpid(), kinds[i]);
            write_all(back[1], "c", 1);
            char seen; /* a next stop would take back what the parent has not yet heard of */
            read_all(gate[0], &seen, 1);
        }
        char byte;
        read_all(gate[0], &byte, 1); /* stopped here, it goes on waiting */
        CHECK(byte == 'g');
        _exit(conts);
    }
    int status;
    siginfo_t info;
    for (int i = 0; i < 4; i++) {
        if (i % 2) {
            memset(&info, 0, sizeof info);
            CHECK(waitid(P_PID, (id_t)child, &info, WSTOPPED | WNOWAIT) == 0);
            CHECK(info.si_code == CLD_STOPPED && info.si_status == kinds[i] && info.si_pid == child);
        }
        CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == kinds[i]);
        CHECK(waitpid(child, &status, WUNTRACED | WNOHANG) == 0); /* reported once */
        CHECK(kill(child, SIGCONT) == 0);
        if (i % 2) {
            CHECK(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
        } else {
            CHECK(waitid(P_PID, (id_t)child, &info, WCONTINUED) == 0 && info.si_code == CLD_CONTINUED);
        }
        /* A stop that comes before the child has had the time to see SIGCONT would take that back (signal(7)). */
        char seen;
        read_all(back[0], &seen, 1);
        write_all(gate[1], "s", 1);
    }
    CHECK(stops >= 1 && children >= 4); /* some may be reported as one */
    sleep_ms(2);
    CHECK(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    CHECK(kill(child, SIGCONT) == 0 && waitpid(child, &status, WCONTINUED) == child);
    write_all(gate[1], "g", 1);
    expect_exit(child, 5);

    child = fork(); /* killed while stopped */
    CHECK(child >= 0);
    if (child == 0) {
        raise(SIGSTOP);
        _exit(1);
    }
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    CHECK(kill(child, SIGTERM) == 0 && waitpid(child, &status, WNOHANG) == 0); /* waits for the stop's end */
    CHECK(kill(child, SIGCONT) == 0);
    expect_death(child, SIGTERM);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        raise(SIGSTOP);
        _exit(1);
    }
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    CHECK(kill(child, SIGKILL) == 0);
    expect_death(child, SIGKILL);
    return 0;
}

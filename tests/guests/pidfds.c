/* pidfds of children and of the process itself: sending signals, waiting, and taking descriptors out of
 * other processes. */
#include "guest.h"
#include <poll.h>
#include <sys/syscall.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static int pidfd(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int main(void) {
    int gate[2], ready[2];
    CHECK(pipe(gate) == 0 && pipe(ready) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        int hidden = open("hidden", O_RDWR | O_CREAT | O_TRUNC, 0600);
        CHECK(hidden >= 0 && unlink("hidden") == 0);
        CHECK(dup2(hidden, 100) == 100);
        write_all(hidden, "secret", 6);
        write_all(ready[1], "x", 1);
        CHECK(read(gate[0], &byte, 1) == 1);
        _exit(44);
    }
    char byte, text[8];
    read_all(ready[0], &byte, 1);
    int fd = pidfd(child);
    CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    int taken = (int)syscall(SYS_pidfd_getfd, fd, 100, 0);
    if (taken >= 0) { /* the kernel's rules for ptrace apply */
        CHECK(pread(taken, text, 6, 0) == 6 && memcmp(text, "secret", 6) == 0 && close(taken) == 0);
    } else {
        CHECK(errno == EPERM);
    }
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CHECK(waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0);
    CHECK(syscall(SYS_pidfd_send_signal, fd, SIGSTOP, NULL, 0) == 0);
    CHECK(waitid(P_PIDFD, (id_t)fd, &info, WSTOPPED) == 0 && info.si_code == CLD_STOPPED);
    CHECK(syscall(SYS_pidfd_send_signal, fd, SIGCONT, NULL, 0) == 0);
    CHECK(waitid(P_PIDFD, (id_t)fd, &info, WCONTINUED) == 0 && info.si_code == CLD_CONTINUED);
    write_all(gate[1], "g", 1);
    struct pollfd poller = {fd, POLLIN, 0};
    CHECK(poll(&poller, 1, -1) == 1 && poller.revents == POLLIN);
    CHECK(waitid(P_PIDFD, (id_t)fd, &info, WEXITED) == 0 && info.si_code == CLD_EXITED && info.si_status == 44);
    CHECK(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) == -1 && errno == ESRCH);
    CHECK(pidfd(child) == -1 && errno == ESRCH);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int self = pidfd(getpid());
    memset(&info, 0, sizeof info);
    info.si_signo = SIGUSR1;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_value.sival_int = 31;
    CHECK(syscall(SYS_pidfd_send_signal, self, SIGUSR1, &info, 0) == 0);
    memset(&info, 0, sizeof info);
    CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_code == SI_QUEUE && info.si_value.sival_int == 31);

    /* clone with CLONE_PIDFD */
    int made = -1;
    child = (pid_t)syscall(SYS_clone, 0x1000 | SIGCHLD, NULL, &made, NULL, NULL);
    CHECK(child >= 0);
    if (child == 0) {
        _exit(3);
    }
    CHECK(made >= 0 && waitid(P_PIDFD, (id_t)made, &info, WEXITED) == 0);
    CHECK(info.si_pid == child && info.si_status == 3);
    printf("%d %d\n", getpid(), child);
    return 0;
}

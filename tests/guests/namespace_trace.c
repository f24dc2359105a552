/* Tracing in a pid namespace: numbers of tasks are those of the namespace, in requests, waits, messages and siginfo. So are
 * those of other calls that name a task. If the system does not allow namespaces, the guest is told so. */
#define _GNU_SOURCE
#include "namespace.h"
#include "tracing.h"
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static volatile int told_pid;
static int value = 5, has_proc;

static int bind_to_first(pid_t pid) {
    unsigned long first = 1;
    return (int)syscall(SYS_sched_setaffinity, pid, sizeof first, &first);
}

static void on_child(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    told_pid = info->si_pid;
}

static int tracee(void) {
    CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    raise(SIGSTOP);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        _exit(4);
    }
    expect_exit(child, 4);
    pid_t quick = vfork();
    CHECK(quick >= 0);
    if (quick == 0) {
        _exit(6);
    }
    expect_exit(quick, 6);
    return 5;
}

static void trace(void) {
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        _exit(tracee());
    }
    CHECK(wait_for_stop(pid) == SIGSTOP && told_pid == pid);
    siginfo_t info;
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0 && info.si_pid == pid);
    long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXIT;
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0, options) == 0);
    int births = 0, ends = 0;
    pid_t last = 0;
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    while (ends < 3) {
        siginfo_t news = {0};
        CHECK(waitid(P_ALL, 0, &news, WEXITED | WSTOPPED | __WALL) == 0);
        pid_t who = news.si_pid;
        CHECK(who == pid || who > pid);
        if (news.si_code == CLD_EXITED) {
            ends++;
            continue;
        }
        unsigned long message = 0;
        int event = news.si_status >> 8;
        if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_VFORK_DONE) {
            CHECK(ptrace(PTRACE_GETEVENTMSG, who, 0, &message) == 0);
            CHECK(ptrace(PTRACE_GETSIGINFO, who, 0, &info) == 0 && info.si_pid == who);
            if (event == PTRACE_EVENT_VFORK_DONE) {
                CHECK((pid_t)message == last);
            } else {
                births++;
                last = (pid_t)message;
                CHECK(last > pid && last <= pid + 2);
            }
        }
        int is_signal = news.si_status == SIGCHLD;
        CHECK(ptrace(PTRACE_CONT, who, 0, is_signal ? SIGCHLD : 0) == 0);
    }
    CHECK(births == 2);
    CHECK(ptrace(PTRACE_CONT, 77, 0, 0) == -1 && errno == ESRCH);
    CHECK(ptrace(PTRACE_ATTACH, 77, 0, 0) == -1 && errno == ESRCH);
    /* Those outside have no number. */
    CHECK(ptrace(PTRACE_ATTACH, 0, 0, 0) == -1 && errno == ESRCH);
}

static void attach(void) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    CHECK(ptrace(PTRACE_ATTACH, pid, 0, 0) == 0);
    int status;
    CHECK(waitpid(-getpgrp(), &status, __WALL) == pid && WIFSTOPPED(status));
    int seven = 7;
    struct iovec ours = {&seven, sizeof seven}, theirs = {&value, sizeof value};
    CHECK(process_vm_writev(pid, &ours, 1, &theirs, 1, 0) == sizeof seven);
    CHECK(ptrace(PTRACE_PEEKDATA, pid, &value, 0) % 256 == 7);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR);
    CHECK(fd >= 0 || !has_proc);
    if (fd >= 0) {
        CHECK(pwrite(fd, &seven, sizeof seven, (uintptr_t)&value) == sizeof seven);
        close(fd);
    }
    cpu_set_t set;
    CHECK(bind_to_first(pid) == 0);
    CPU_ZERO(&set);
    CHECK(sched_getaffinity(pid, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1 && CPU_ISSET(0, &set));
    CHECK(ptrace(PTRACE_DETACH, pid, 0, 0) == 0);
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

/* Executable memory without a file would be rr's. */
static void look_at_maps(void) {
    char line[4096];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        char rights[5], name[256] = "";
        unsigned long inode;
        CHECK(sscanf(line, "%*x-%*x %4s %*x %*s %lu %255s", rights, &inode, name) >= 2);
        CHECK(rights[2] != 'x' || inode != 0 || name[0] == '[');
    }
    fclose(maps);
}

static int first(void) {
    CHECK(getpid() == 1);
    /* Not everywhere may a user mount this. */
    has_proc = unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount("proc", "/proc", "proc", 0, NULL) == 0;
    if (has_proc) {
        look_at_maps();
    }
    CHECK(bind_to_first(-1) == -1 && errno == ESRCH);
    CHECK(bind_to_first(4000) == -1 && errno == ESRCH);
    trace();
    attach();
    return 3;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    CHECK(bind_to_first(-1) == -1 && errno == ESRCH);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pid_t init = fork_namespace();
        if (init == 0) {
            _exit(first());
        }
        /* From outside, the namespace's processes have other numbers. */
        CHECK(ptrace(PTRACE_SEIZE, init, 0, 0) == 0);
        CHECK(ptrace(PTRACE_INTERRUPT, init, 0, 0) == 0);
        int status;
        do {
            CHECK(waitpid(init, &status, __WALL) == init);
            if (WIFSTOPPED(status)) {
                int event = status >> 16;
                CHECK(ptrace(PTRACE_CONT, init, 0, event == 0 ? WSTOPSIG(status) : 0) == 0);
            }
        } while (WIFSTOPPED(status));
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    puts(WEXITSTATUS(status) == 0 ? "traced" : "no namespaces here");
    return WEXITSTATUS(status) > 1;
}

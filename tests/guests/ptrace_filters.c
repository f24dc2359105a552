/* SECCOMP_RET_TRACE: calls that a filter leaves to the tracer (PTRACE_O_TRACESECCOMP), which allows
 * them, changes them, or suppresses them; with and without stops at entries and exits of calls. Also a
 * tracer that suspends filters. */
#include "filters.h"
#include "tracing.h"
#include <linux/ptrace.h>
#include <sys/user.h>

/* (glibc's header and the kernel's do not go together.) */
extern long ptrace(int request, ...);

#define EVENT_FILTER (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)
#define AT_CALL (SIGTRAP | 0x80)
/* PTRACE_SECCOMP_GET_METADATA, whose name glibc and the kernel define differently. */
#define GET_METADATA 0x420d

static void confine(void) {
    struct filter f = {.length = 0};
    load(&f, NUMBER);
    answer_if(&f, SYS_getpgid, SECCOMP_RET_TRACE | 0x4321);
    answer_if(&f, SYS_getppid, SECCOMP_RET_TRACE | 5);
    answer_if(&f, SYS_getsid, SECCOMP_RET_ERRNO | EDOM);
    answer(&f, SECCOMP_RET_ALLOW);
    CHECK(install_with(&f, 0) == 0);
}

static _Noreturn void be_traced(void) {
    CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    CHECK(raise(SIGSTOP) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    confine();
    const pid_t parent = getppid();                           /* is made */
    CHECK(syscall(SYS_getpgid, 0) == 12345);                  /* is taken away */
    CHECK(syscall(SYS_getpgid, 1) == parent);                 /* becomes getppid, which is left to the tracer only once */
    CHECK(syscall(SYS_getpgid, 2) == -1 && errno == EDOM);    /* becomes getsid, which is refused */
    CHECK(syscall(SYS_getpgid, 3) == 777);                    /* gets another result, if the exit is seen */
    CHECK(syscall(SYS_getsid, 0) == -1 && errno == EDOM);     /* the tracer is not asked */
    _exit(9);
}

/* A tracer with privileges can read its tracee's filters, the oldest first. */
static void read_filters(pid_t child, int installed) {
    struct sock_filter code[64];
    long length = ptrace(PTRACE_SECCOMP_GET_FILTER, child, 0L, NULL);
    if (geteuid() != 0) {
        CHECK(length == -1 && errno == EACCES);
        return;
    }
    if (!installed) {
        CHECK(length == -1 && errno == EINVAL);
        return;
    }
    CHECK(length == 8);
    CHECK(ptrace(PTRACE_SECCOMP_GET_FILTER, child, 0L, code) == 8);
    CHECK(code[0].code == (BPF_LD | BPF_W | BPF_ABS) && code[0].k == NUMBER);
    CHECK(code[1].k == SYS_getpgid && code[2].k == (SECCOMP_RET_TRACE | 0x4321));
    CHECK(code[7].code == (BPF_RET | BPF_K) && code[7].k == SECCOMP_RET_ALLOW);
    CHECK(ptrace(PTRACE_SECCOMP_GET_FILTER, child, 1L, NULL) == -1 && errno == ENOENT);
    CHECK(ptrace(PTRACE_SECCOMP_GET_FILTER, child, 0L, 8L) == -1 && errno == EFAULT);
}

/* The flags of the one filter, which is not logged. */
static void read_metadata(pid_t child, int installed) {
    struct {
        uint64_t number, flags;
    } data = {0, 99};
    long size = ptrace(GET_METADATA, child, sizeof data, &data);
    if (geteuid() != 0) {
        CHECK(size == -1 && errno == EACCES);
        return;
    }
    CHECK(ptrace(GET_METADATA, child, 7L, &data) == -1 && errno == EINVAL);
    if (!installed) {
        CHECK(size == -1 && errno == EINVAL);
        return;
    }
    CHECK(size == sizeof data && data.number == 0 && data.flags == 0);
    data.flags = 99;
    CHECK(ptrace(GET_METADATA, child, 8L, &data) == 8 && data.flags == 99);
    CHECK(ptrace(GET_METADATA, child, 100L, &data) == sizeof data && data.flags == 0);
    data.number = 1;
    CHECK(ptrace(GET_METADATA, child, sizeof data, &data) == -1 && errno == ENOENT);
    CHECK(ptrace(GET_METADATA, child, sizeof data, 8L) == -1 && errno == EFAULT);
}

static pid_t start(long options) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        be_traced();
    }
    CHECK(wait_for_stop(child) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, options | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0);
    read_filters(child, 0);
    read_metadata(child, 0);
    return child;
}

static void at_filter(pid_t child, int shows_exits, int *is_changed) {
    struct user_regs_struct regs;
    CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
    unsigned long message;
    CHECK(ptrace(PTRACE_GETEVENTMSG, child, 0, &message) == 0);
    CHECK(message == (regs.orig_rax == SYS_getpgid ? 0x4321u : 5u));
    CHECK((long)regs.rax == -ENOSYS);
    struct ptrace_syscall_info info;
    long size = ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info);
    CHECK(size >= 84 && info.op == PTRACE_SYSCALL_INFO_SECCOMP);
    CHECK(info.seccomp.nr == regs.orig_rax && info.seccomp.args[0] == regs.rdi && info.seccomp.ret_data == message);
    siginfo_t told;
    CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &told) == 0 && told.si_code == EVENT_FILTER && told.si_signo == SIGTRAP);
    *is_changed = 0;
    if (regs.orig_rax != SYS_getpgid) {
        return;
    }
    switch (regs.rdi) {
    case 0:
        regs.orig_rax = (unsigned long long)-1;
        regs.rax = 12345;
        break;
    case 1:
        regs.orig_rax = SYS_getppid;
        break;
    case 2:
        regs.orig_rax = SYS_getsid;
        break;
    case 3:
        if (shows_exits) {
            *is_changed = 1;
            return;
        }
        regs.orig_rax = (unsigned long long)-1;
        regs.rax = 777;
        break;
    default:
        CHECK(!"another call");
    }
    CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
}

/* The tracer stops only at calls that filters leave to it. */
static void filters_only(void) {
    pid_t child = start(PTRACE_O_TRACESECCOMP);
    int stops = 0, status, is_changed;
    for (;;) {
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFEXITED(status)) {
            break;
        }
        CHECK(status >> 8 == EVENT_FILTER);
        at_filter(child, 0, &is_changed);
        stops++;
    }
    CHECK(WEXITSTATUS(status) == 9 && stops == 5);
}

/* The tracer stops at entries and exits, too: the entry, the filter's stop, the exit. */
static void with_exits(void) {
    pid_t child = start(PTRACE_O_TRACESECCOMP);
    int filters = 0, entries = 0, exits = 0, is_in_call = 0, is_changed = 0, status;
    for (;;) {
        CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0);
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFEXITED(status)) {
            break;
        }
        if (status >> 8 == EVENT_FILTER) {
            CHECK(is_in_call);
            filters++;
            at_filter(child, 1, &is_changed);
            continue;
        }
        CHECK(status >> 8 == AT_CALL);
        entries += !is_in_call;
        exits += is_in_call;
        if (is_in_call && is_changed) {
            struct user_regs_struct regs;
            CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
            regs.rax = 777;
            CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
            is_changed = 0;
        }
        is_in_call = !is_in_call;
    }
    CHECK(WEXITSTATUS(status) == 9 && filters == 5 && entries == exits + 1 && exits >= 7);
}

/* From the filter's stop to the exit of the call, with no entry before. */
static void to_the_exit(void) {
    pid_t child = start(PTRACE_O_TRACESECCOMP);
    int status, is_changed;
    for (int i = 0; i < 5; i++) {
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == EVENT_FILTER);
        read_filters(child, 1);
        read_metadata(child, 1);
        at_filter(child, 1, &is_changed);
        CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == AT_CALL);
        if (is_changed) {
            struct user_regs_struct regs;
            CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
            CHECK((long)regs.rax == -ESRCH || (long)regs.rax >= 0);
            regs.rax = 777;
            CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
        }
    }
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9);
}

/* No tracer has asked for these stops: such calls fail. */
static void nobody_is_asked(int is_traced) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (is_traced) {
            CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
            CHECK(raise(SIGSTOP) == 0);
        }
        promise();
        confine();
        for (int i = 0; i < 4; i++) {
            CHECK(syscall(SYS_getppid) == -1 && errno == ENOSYS);
        }
        _exit(6);
    }
    if (is_traced) {
        CHECK(wait_for_stop(child) == SIGSTOP);
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    }
    expect_exit(child, 6);
}

/* Filters are suspended, and later active again. */
static void suspended(void) {
    if (prctl(PR_GET_SECCOMP) != 0 || geteuid() != 0) {
        return;
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        promise();
        confine();
        CHECK(syscall(SYS_getsid, 0) == -1 && errno == EDOM);
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        CHECK(raise(SIGSTOP) == 0);
        CHECK(syscall(SYS_getsid, 0) != -1);
        CHECK(raise(SIGSTOP) == 0);
        CHECK(syscall(SYS_getsid, 0) == -1 && errno == EDOM);
        _exit(6);
    }
    CHECK(wait_for_stop(child) == SIGSTOP);
    if (ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_SUSPEND_SECCOMP) == 0) {
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == SIGSTOP);
        CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, 0) == 0);
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        expect_exit(child, 6);
    } else {
        CHECK(!recorded());
        CHECK(kill(child, SIGKILL) == 0);
        expect_death(child, SIGKILL);
    }
}

/* A filter's signal is reported to the tracer, which suppresses it. */
static void signal_is_seen(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        CHECK(raise(SIGSTOP) == 0);
        promise();
        install_for(SYS_getppid, SECCOMP_RET_TRAP | 44);
        CHECK(syscall(SYS_getppid) == SYS_getppid);
        syscall(SYS_getppid);
        _exit(1);
    }
    CHECK(wait_for_stop(child) == SIGSTOP);
    for (int i = 0; i < 2; i++) {
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == SIGSYS);
        siginfo_t told;
        CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &told) == 0);
        CHECK(told.si_signo == SIGSYS && told.si_code == 1 && told.si_errno == 44 && told.si_syscall == SYS_getppid);
    }
    CHECK(ptrace(PTRACE_CONT, child, 0, SIGSYS) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

int main(void) {
    filters_only();
    with_exits();
    to_the_exit();
    nobody_is_asked(0);
    nobody_is_asked(1);
    signal_is_seen();
    suspended();
    printf("%d\n", getpid());
    return 0;
}

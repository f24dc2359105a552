/* PTRACE_TRACEME and PTRACE_SYSCALL: a child stops at each of its calls; the tracer changes some calls
 * and suppresses one. Also the events that a tracer gets: fork, vfork, clone, exec and exit. */
#include "tracing.h"
#include <elf.h>
#include <linux/ptrace.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/utsname.h>

/* (glibc's header and the kernel's do not go together.) */
extern long ptrace(int request, ...);

/* The kernel is this version of Linux or a newer one. */
static int is_linux(int major, int minor) {
    struct utsname name;
    int version = 0, patch = 0;
    CHECK(uname(&name) == 0 && sscanf(name.release, "%d.%d", &version, &patch) == 2);
    return version > major || (version == major && patch >= minor);
}

static void get_regs(pid_t pid, struct user_regs_struct *regs) {
    CHECK(ptrace(PTRACE_GETREGS, pid, 0, regs) == 0);
}

/* The child's calls: each is made twice, so that the second could be a buffered one. */
static _Noreturn void make_calls(void) {
    CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    CHECK(raise(SIGSTOP) == 0);
    for (int i = 0; i < 4; i++) {
        CHECK(syscall(SYS_getppid) == getppid());
    }
    CHECK(syscall(SYS_getpgid, 0) == 12345);      /* taken away, and answered by the tracer */
    CHECK(syscall(SYS_getpgid, 1, 2) == getppid()); /* made another call */
    CHECK(syscall(SYS_getpgid, 2) == 777);        /* another result */
    CHECK(syscall(SYS_getpgid, 3) == -1 && errno == EPERM);
    _exit(9);
}

static void change_calls(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        make_calls();
    }
    CHECK(wait_for_stop(child) == SIGSTOP);
    struct ptrace_rseq_configuration rseq; /* the child has its parent's */
    CHECK(ptrace(PTRACE_GET_RSEQ_CONFIGURATION, child, sizeof rseq, &rseq) == sizeof rseq);
    CHECK(rseq.rseq_abi_pointer == (uintptr_t)__builtin_thread_pointer() + (uintptr_t)__rseq_offset);
    CHECK(rseq.rseq_abi_size >= 32 && rseq.signature == RSEQ_SIG && rseq.flags == 0);
    rseq.rseq_abi_size = 7;
    CHECK(ptrace(PTRACE_GET_RSEQ_CONFIGURATION, child, 8L, &rseq) == sizeof rseq && rseq.rseq_abi_size == 7);
    CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0);
    CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, 1 << 30) == -1 && errno == EINVAL);
    int parents = 0, entries = 0, exits = 0, is_entry = 1, status;
    for (;;) {
        CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0);
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFEXITED(status)) {
            break;
        }
        CHECK(status >> 8 == (SIGTRAP | 0x80));
        struct user_regs_struct regs;
        get_regs(child, &regs);
        struct ptrace_syscall_info info;
        long size = ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info);
        CHECK(size >= 33 && info.arch == 0xc000003e);
        CHECK(info.instruction_pointer == regs.rip && info.stack_pointer == regs.rsp);
        unsigned long message;
        CHECK(ptrace(PTRACE_GETEVENTMSG, child, 0, &message) == 0);
        CHECK(message == (is_entry ? 1 : 2));
        siginfo_t signal;
        CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &signal) == 0 && signal.si_code == (SIGTRAP | 0x80));
        if (is_entry) {
            CHECK(info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == regs.orig_rax);
            CHECK(info.entry.args[0] == regs.rdi && (long)regs.rax == -ENOSYS);
            entries++;
            parents += regs.orig_rax == SYS_getppid;
            if (regs.orig_rax == SYS_getpgid) {
                if (regs.rdi == 0) {
                    regs.orig_rax = (unsigned long)-1;
                    regs.rax = 12345;
                } else if (regs.rdi == 1) {
                    regs.orig_rax = SYS_getppid;
                }
                CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
            }
        } else {
            CHECK(info.op == PTRACE_SYSCALL_INFO_EXIT && info.exit.rval == (long)regs.rax);
            CHECK(info.exit.is_error == ((long)regs.rax < 0));
            exits++;
            if (regs.orig_rax == SYS_getpgid && regs.rdi == 2) {
                CHECK(ptrace(PTRACE_POKEUSR, child, 8 * 10, 777L) == 0);
            } else if (regs.orig_rax == SYS_getpgid && regs.rdi == 3) {
                regs.rax = (unsigned long)-EPERM;
                CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
            }
        }
        is_entry = !is_entry;
    }
    CHECK(WEXITSTATUS(status) == 9);
    printf("%d %d %d\n", parents, entries, exits);
}

static void *be_thread(void *unused) {
    return unused;
}

static void make_family(char *self) {
    CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    CHECK(raise(SIGSTOP) == 0);
    pid_t child = fork();
    if (child == 0) {
        _exit(3);
    }
    expect_exit(child, 3);
    child = vfork();
    if (child == 0) {
        _exit(4);
    }
    expect_exit(child, 4);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, be_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    execl("/proc/self/exe", self, "executed", NULL);
    _exit(98);
}

/* Follows a whole family; `pace` is PTRACE_CONT or PTRACE_SYSCALL. */
static void follow(char *self, int pace) {
    pid_t root = fork();
    CHECK(root >= 0);
    if (root == 0) {
        make_family(self);
    }
    CHECK(wait_for_stop(root) == SIGSTOP);
    int options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
                  PTRACE_O_TRACEEXIT | PTRACE_O_TRACEVFORKDONE;
    CHECK(ptrace(PTRACE_SETOPTIONS, root, 0, options) == 0);
    CHECK(ptrace(pace, root, 0, 0) == 0);
    int events[16] = {0}, births = 0, exits = 0, calls = 0;
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid == -1) {
            CHECK(errno == ECHILD);
            break;
        }
        if (!WIFSTOPPED(status)) {
            CHECK(WIFEXITED(status));
            exits++;
            continue;
        }
        int stop = status >> 8, event = status >> 16, signal = 0;
        unsigned long message = 0;
        if (event != 0) {
            CHECK((stop & 0xff) == SIGTRAP && event < 16);
            events[event]++;
            CHECK(ptrace(PTRACE_GETEVENTMSG, pid, 0, &message) == 0);
            if (event == PTRACE_EVENT_EXIT) {
                CHECK(WIFEXITED((int)message));
            } else {
                CHECK(message > 0);
            }
        } else if (stop == SIGSTOP) {
            births++;
        } else if (stop == (SIGTRAP | 0x80)) {
            calls++;
        } else {
            signal = stop;
        }
        if (event == 0 && stop != (SIGTRAP | 0x80)) {
            /* The message of an earlier event is gone: since Linux 5.18. */
            CHECK(ptrace(PTRACE_GETEVENTMSG, pid, 0, &message) == 0);
            CHECK(message == 0 || !is_linux(5, 18));
        }
        CHECK(ptrace(pace, pid, 0, (long)signal) == 0);
    }
    CHECK(events[PTRACE_EVENT_FORK] == 1 && events[PTRACE_EVENT_VFORK] == 1 && events[PTRACE_EVENT_VFORK_DONE] == 1);
    CHECK(events[PTRACE_EVENT_CLONE] == 1 && events[PTRACE_EVENT_EXEC] == 1 && events[PTRACE_EVENT_EXIT] == 4);
    CHECK(births == 3 && exits == 4);
    CHECK((calls > 0) == (pace == PTRACE_SYSCALL));
    printf("%d calls\n", calls > 0);
}

/* Without options: an exec is a SIGTRAP. */
static void exec_traps(char *self) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        execl("/proc/self/exe", self, "executed", NULL);
        _exit(98);
    }
    CHECK(wait_for_stop(child) == SIGTRAP);
    struct user_regs_struct regs;
    get_regs(child, &regs);
    errno = 0;
    CHECK(ptrace(PTRACE_PEEKDATA, child, regs.rsp, 0) == 2 && errno == 0); /* argc */
    uint64_t mask = 1ull << (SIGUSR1 - 1);
    CHECK(ptrace(PTRACE_SETSIGMASK, child, 8L, &mask) == 0);
    mask = 0;
    CHECK(ptrace(PTRACE_GETSIGMASK, child, 8L, &mask) == 0 && mask == 1ull << (SIGUSR1 - 1));
    struct ptrace_rseq_configuration rseq;
    CHECK(ptrace(PTRACE_GET_RSEQ_CONFIGURATION, child, sizeof rseq, &rseq) == sizeof rseq);
    CHECK(rseq.rseq_abi_pointer == 0 && rseq.rseq_abi_size == 0); /* no C library has run yet */
    CHECK(kill(child, SIGUSR1) == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    expect_exit(child, 5);
}

static volatile char selector;
static volatile int trapped;

static void on_call(int signal) {
    (void)signal;
    selector = 0; /* SYSCALL_DISPATCH_FILTER_ALLOW */
    trapped++;
}

/* The tracer lets calls of its tracee become signals. */
static void dispatch_calls(void) {
    enum { SET = 0x4210, GET = 0x4211 }; /* PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, …GET… */
    struct {
        uint64_t mode, selector, offset, length;
    } config = {9, 9, 9, 9}, off = {0, 0, 0, 0}, wrong = {7, 0, 0, 0}, half = {0, 1, 0, 0};
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        CHECK(signal(SIGSYS, on_call) != SIG_ERR);
        CHECK(raise(SIGSTOP) == 0);
        selector = 1; /* SYSCALL_DISPATCH_FILTER_BLOCK */
        syscall(SYS_getppid);
        CHECK(trapped == 1 && selector == 0);
        CHECK(raise(SIGSTOP) == 0);
        selector = 1; /* has no effect any more */
        CHECK(syscall(SYS_getppid) == getppid() && trapped == 1);
        _exit(4);
    }
    CHECK(wait_for_stop(child) == SIGSTOP);
    CHECK(ptrace(GET, child, sizeof config, &config) == 0);
    CHECK(config.mode == 0 && config.selector == 0 && config.offset == 0 && config.length == 0);
    CHECK(ptrace(GET, child, 8L, &config) == -1 && errno == EINVAL);
    CHECK(ptrace(SET, child, 8L, &config) == -1 && errno == EINVAL);
    CHECK(ptrace(SET, child, sizeof wrong, &wrong) == -1 && errno == EINVAL);
    CHECK(ptrace(SET, child, sizeof half, &half) == -1 && errno == EINVAL);
    config.mode = 1; /* PR_SYS_DISPATCH_ON */
    config.selector = (uintptr_t)&selector;
    config.offset = 4096;
    config.length = 16;
    CHECK(ptrace(SET, child, sizeof config, &config) == 0);
    memset(&config, 0, sizeof config);
    CHECK(ptrace(GET, child, sizeof config, &config) == 0 && config.mode == 1);
    CHECK(config.selector == (uintptr_t)&selector && config.offset == 4096 && config.length == 16);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(wait_for_stop(child) == SIGSYS);
    CHECK(ptrace(PTRACE_CONT, child, 0, SIGSYS) == 0);
    CHECK(wait_for_stop(child) == SIGSTOP);
    CHECK(ptrace(SET, child, sizeof off, &off) == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    expect_exit(child, 4);
}

int main(int argc, char **argv) {
    (void)argc;
    if (argv[1] != NULL) {
        return 5;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    change_calls();
    follow(argv[0], PTRACE_CONT);
    follow(argv[0], PTRACE_SYSCALL);
    exec_traps(argv[0]);
    dispatch_calls();
    return 0;
}

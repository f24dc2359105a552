/* SECCOMP_RET_TRAP: a SIGSYS with all details of the call; the signal's handler supplies the call's
 * result, like the broker of a sandbox. If the signal is blocked or ignored, or has no handler, the
 * process dies. */
#include "filters.h"
#include <sys/resource.h>
#include <ucontext.h>

static volatile int traps, is_refused;
static siginfo_t last;
static greg_t last_rax, last_rip, last_rcx;

static void on_trap(int signal, siginfo_t *info, void *context) {
    ucontext_t *user = context;
    CHECK(signal == SIGSYS);
    last = *info;
    last_rax = user->uc_mcontext.gregs[REG_RAX];
    last_rip = user->uc_mcontext.gregs[REG_RIP];
    last_rcx = user->uc_mcontext.gregs[REG_RCX];
    traps++;
    /* The result of the call. */
    user->uc_mcontext.gregs[REG_RAX] = is_refused ? -EACCES : 1000 + traps;
}

static void handle(int flags) {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | flags};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
}

extern const char after_call[] __asm__("after_call");

static __attribute__((noinline)) long make(long number, long a) {
    long result;
    __asm__ volatile("syscall\nafter_call:" : "=a"(result) : "a"(number), "D"(a) : "rcx", "r11", "memory");
    return result;
}

static void answered(void) {
    handle(0);
    install_for(SYS_getppid, SECCOMP_RET_TRAP | 0x1234);
    install_for(SYS_mkdir, SECCOMP_RET_TRAP | 0xffff);
    for (int i = 1; i < 8; i++) {
        const long number = i & 1 ? SYS_getppid : SYS_mkdir;
        CHECK(make(number, 77) == 1000 + i);
        CHECK(traps == i && last_rax == number);
        CHECK(last_rip == (greg_t)after_call && last_rcx == last_rip);
        CHECK(last.si_signo == SIGSYS && last.si_code == 1 /* SYS_SECCOMP */);
        CHECK(last.si_errno == (i & 1 ? 0x1234 : 0xffff) && last.si_syscall == number);
        CHECK(last.si_call_addr == after_call && last.si_arch == AUDIT_ARCH_X86_64);
        /* Other calls are made as before. */
        CHECK(make(SYS_getpid, 0) == getpid());
        CHECK(make(SYS_gettid, 0) == getpid());
    }
    is_refused = 1;
    CHECK(syscall(SYS_getppid) == -1 && errno == EACCES);
    /* Other signals come as well. */
    raise(SIGCHLD);
    CHECK(traps == 8);
    printf("%d traps of %d\n", traps, getpid());
    fflush(stdout);
}

/* A jump out of the handler. */
#include <setjmp.h>
static sigjmp_buf out;
static void jump(int signal) { siglongjmp(out, signal); }
static void jumped(void) {
    signal(SIGSYS, jump);
    install_for(SYS_getppid, SECCOMP_RET_TRAP);
    for (volatile int i = 0; i < 4; i++) {
        if (sigsetjmp(out, 1) == 0) {
            make(SYS_getppid, 0);
            CHECK(!"it returned");
        }
    }
}

static void unhandled(void) {
    install_for(SYS_getppid, SECCOMP_RET_TRAP);
    make(SYS_getppid, 0);
}

static void ignored(void) {
    signal(SIGSYS, SIG_IGN);
    unhandled();
}

static void blocked(void) {
    handle(0);
    sigset_t set;
    sigfillset(&set);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    unhandled();
}

/* The signal is blocked in its handler, so the second one kills. */
static void on_nested(int signal) {
    (void)signal;
    make(SYS_getppid, 0);
}
static void nested(void) {
    signal(SIGSYS, on_nested);
    unhandled();
}

static void once(void) {
    handle(SA_RESETHAND);
    unhandled();
    CHECK(traps == 1);
    make(SYS_getppid, 0);
}

static void run(void (*part)(void), int ending) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        part();
        _exit(3);
    }
    if (ending == 0) {
        expect_exit(child, 3);
    } else {
        expect_death(child, ending);
    }
}

int main(void) {
    struct rlimit none = {0, 0};
    CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
    promise();
    run(answered, 0);
    run(jumped, 0);
    run(unhandled, SIGSYS);
    run(ignored, SIGSYS);
    run(blocked, SIGSYS);
    run(nested, SIGSYS);
    run(once, SIGSYS);
    printf("%d\n", getpid());
    return 0;
}

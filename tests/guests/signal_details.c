/* The data that a handler gets, and ways to leave it: siginfo of each kind of sender, siglongjmp,
 * SA_NODEFER, SA_RESETHAND, SA_NOCLDWAIT, SA_NOCLDSTOP, and the flag of a core dump. */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

static volatile siginfo_t last;
static volatile sig_atomic_t count, depth, deepest;
static sigjmp_buf back;

static void note(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    last = *info;
    count++;
}

static void jump(int signal, siginfo_t *info, void *context) {
    CHECK(((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] != 0);
    last = *info;
    siglongjmp(back, signal);
}

static void recurse(int signal) {
    depth++;
    deepest = depth > deepest ? depth : deepest;
    if (depth < 4) {
        CHECK(raise(signal) == 0);
    }
    depth--;
}

static void catch(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    CHECK(sigaction(signal, &action, NULL) == 0);
}

int main(void) {
    catch(SIGUSR1, note, SA_RESTART);
    CHECK(kill(getpid(), SIGUSR1) == 0 && last.si_code == SI_USER && last.si_pid == getpid() && last.si_uid == getuid());
    CHECK(raise(SIGUSR1) == 0 && last.si_code == SI_TKILL && last.si_pid == getpid());
    union sigval value = {.sival_ptr = &value};
    CHECK(sigqueue(getpid(), SIGUSR1, value) == 0 && last.si_code == SI_QUEUE && last.si_value.sival_ptr == &value);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        _exit(kill(getppid(), SIGUSR1));
    }
    expect_exit(child, 0);
    CHECK(last.si_pid == child && count == 4);

    catch(SIGSEGV, jump, 0);
    catch(SIGFPE, jump, SA_NODEFER);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    for (volatile int i = 0; i < 3; i++) {
        if (sigsetjmp(back, 1) == 0) {
            *(volatile char *)(page + i) = 1;
            CHECK(!"no fault");
        }
        CHECK(last.si_code == SEGV_ACCERR && last.si_addr == page + i);
        if (sigsetjmp(back, 1) == 0) {
            __asm__ volatile("xorl %%edx, %%edx; movl $1, %%eax; xorl %%ecx, %%ecx; divl %%ecx" ::: "eax", "ecx", "edx");
        }
        CHECK(last.si_signo == SIGFPE && last.si_code == FPE_INTDIV);
    }

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = recurse;
    action.sa_flags = SA_NODEFER;
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0 && raise(SIGUSR2) == 0 && deepest == 4 && depth == 0);
    action.sa_flags = SA_RESETHAND;
    deepest = 3;
    depth = 3; /* so that it does not raise again */
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0 && raise(SIGUSR2) == 0 && deepest == 4);
    CHECK(sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_DFL);

    /* Children that nobody has to wait for, many at a time. */
    count = 0;
    catch(SIGCHLD, note, SA_NOCLDWAIT | SA_NOCLDSTOP | SA_RESTART);
    for (int i = 0; i < 30; i++) {
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            _exit(i);
        }
    }
    CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD); /* waits for all, gets none */
    CHECK(count >= 1 && last.si_code == CLD_EXITED);
    signal(SIGCHLD, SIG_DFL);

    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
        signal(SIGSEGV, SIG_DFL);
        *(volatile int *)8 = 1;
        _exit(1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    CHECK(!WCOREDUMP(status));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        abort();
    }
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED) == 0 && info.si_status == SIGABRT);
    CHECK(info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED);
    printf("%s %d\n", info.si_code == CLD_DUMPED ? "dumped" : "killed", getpid());
    return 0;
}

/* Reading the time-stamp counter, which traps under the recorder, does not affect the program's own use
 * of SIGSEGV: blocked, ignored, pending, in its own handler, after exec. */
#include "guest.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>

/* A branch leads to the rdtsc, so it always traps. */
static __attribute__((noinline)) uint64_t ticks(void) {
    uint32_t low, high;
    __asm__ volatile("jmp 2f\n\t1: nop\n\t2: rdtsc\n\tcmp $1, %%ecx\n\tje 2b" : "=a"(low), "=d"(high) : "c"(2) : "cc");
    return (uint64_t)high << 32 | low;
}

static __attribute__((noinline)) uint64_t ticks_and_processor(void) {
    uint32_t low, high, aux;
    __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
    return (uint64_t)high << 32 | low;
}

static sigjmp_buf back;
static volatile int handled;
static char *unmapped;

static int blocked(int signal) {
    sigset_t now;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
    return sigismember(&now, signal);
}

static void change(int how, int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    CHECK(pthread_sigmask(how, &set, NULL) == 0);
}

static void handler(int signal, siginfo_t *info, void *context) {
    (void)context;
    CHECK(signal == SIGSEGV && info->si_addr == unmapped && blocked(SIGSEGV));
    ticks();
    ticks_and_processor();
    CHECK(blocked(SIGSEGV));
    handled++;
    siglongjmp(back, 1);
}

static void set_action(void (*action)(int, siginfo_t *, void *), int flags) {
    struct sigaction new = {.sa_sigaction = action, .sa_flags = flags};
    sigemptyset(&new.sa_mask);
    sigaddset(&new.sa_mask, SIGUSR2);
    CHECK(sigaction(SIGSEGV, &new, NULL) == 0);
}

static void expect_action(void (*action)(int, siginfo_t *, void *), int flags) {
    struct sigaction now;
    CHECK(sigaction(SIGSEGV, NULL, &now) == 0);
    CHECK(now.sa_sigaction == action && (now.sa_flags & 0xffffff) == (flags & 0xffffff));
    CHECK(sigismember(&now.sa_mask, SIGUSR2));
}

/* A fault reaches the handler. */
static void fault(void) {
    int before = handled;
    if (!sigsetjmp(back, 1)) {
        *(volatile char *)unmapped = 1;
    }
    CHECK(handled == before + 1);
}

static void *thread(void *argument) {
    CHECK(!blocked(SIGSEGV));
    change(SIG_BLOCK, SIGSEGV);
    for (int i = 0; i < 20; i++) {
        ticks();
        CHECK(blocked(SIGSEGV));
        usleep(100);
    }
    change(SIG_UNBLOCK, SIGSEGV);
    return argument;
}

static int after_exec(const char *how) {
    struct sigaction now;
    CHECK(sigaction(SIGSEGV, NULL, &now) == 0);
    CHECK(now.sa_handler == (strchr(how, 'i') ? SIG_IGN : SIG_DFL));
    CHECK(blocked(SIGSEGV) == (strchr(how, 'b') != NULL));
    ticks();
    CHECK(sigaction(SIGSEGV, NULL, &now) == 0);
    CHECK(now.sa_handler == (strchr(how, 'i') ? SIG_IGN : SIG_DFL));
    CHECK(blocked(SIGSEGV) == (strchr(how, 'b') != NULL));
    if (strchr(how, 'p')) {
        sigset_t set;
        siginfo_t info;
        sigemptyset(&set);
        sigaddset(&set, SIGSEGV);
        CHECK(syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 8) == SIGSEGV && info.si_code == SI_TKILL && info.si_pid == getpid());
    }
    set_action(handler, SA_SIGINFO);
    change(SIG_UNBLOCK, SIGSEGV);
    fault();
    return 0;
}

static void execute(const char *how) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (strchr(how, 'b')) {
            change(SIG_BLOCK, SIGSEGV);
        }
        if (strchr(how, 'i')) {
            CHECK(signal(SIGSEGV, SIG_IGN) != SIG_ERR);
        }
        if (strchr(how, 'p')) {
            CHECK(raise(SIGSEGV) == 0);
        }
        execl("/proc/self/exe", "tsc_signals", how, NULL);
        CHECK(!"exec failed");
    }
    expect_exit(child, 0);
}

int main(int argc, char **argv) {
    unmapped = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (argc > 1) {
        return after_exec(argv[1]);
    }
    uint64_t first = ticks();
    set_action(handler, SA_SIGINFO);
    fault();
    fault();
    expect_action(handler, SA_SIGINFO);

    /* Blocked, in every possible way. */
    change(SIG_BLOCK, SIGSEGV);
    ticks();
    CHECK(blocked(SIGSEGV));
    expect_action(handler, SA_SIGINFO);
    change(SIG_UNBLOCK, SIGSEGV);
    ticks();
    CHECK(!blocked(SIGSEGV));
    sigset_t all, before;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_SETMASK, &all, &before) == 0);
    for (int i = 0; i < 10; i++) {
        ticks();
        CHECK(blocked(SIGSEGV) && blocked(SIGTRAP) && blocked(SIGUSR1));
    }
    uint64_t raw[2] = {0, 0};
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &raw[0], &raw[0], 8) == 0 && raw[0] != 0);
    ticks();
    CHECK(!blocked(SIGSEGV));
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    fault();

    /* Pending, for the thread and for the process. */
    change(SIG_BLOCK, SIGSEGV);
    CHECK(raise(SIGSEGV) == 0);
    CHECK(kill(getpid(), SIGSEGV) == 0);
    ticks();
    ticks_and_processor();
    CHECK(blocked(SIGSEGV));
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    CHECK(syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 8) == SIGSEGV && info.si_code == SI_TKILL && info.si_pid == getpid());
    ticks();
    CHECK(syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 8) == SIGSEGV && info.si_code == SI_USER && info.si_pid == getpid());
    ticks();
    sigset_t pending;
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGSEGV));
    expect_action(handler, SA_SIGINFO);
    change(SIG_UNBLOCK, SIGSEGV);
    fault();

    /* One thread blocks it, the other does not; both have the action. */
    pthread_t other;
    CHECK(pthread_create(&other, NULL, thread, NULL) == 0);
    for (int i = 0; i < 20; i++) {
        ticks();
        CHECK(!blocked(SIGSEGV));
        usleep(100);
    }
    CHECK(pthread_join(other, NULL) == 0);
    expect_action(handler, SA_SIGINFO);
    fault();

    /* A child has a table of actions of its own. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        change(SIG_BLOCK, SIGSEGV);
        ticks();
        expect_action(handler, SA_SIGINFO);
        change(SIG_UNBLOCK, SIGSEGV);
        CHECK(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
        change(SIG_BLOCK, SIGSEGV);
        ticks();
        change(SIG_UNBLOCK, SIGSEGV);
        *(volatile char *)unmapped = 1;
        _exit(0);
    }
    expect_death(child, SIGSEGV);
    change(SIG_BLOCK, SIGSEGV);
    ticks();
    change(SIG_UNBLOCK, SIGSEGV);
    fault();

    /* A handler for a single signal. */
    set_action(handler, SA_SIGINFO | SA_RESETHAND);
    fault();
    change(SIG_BLOCK, SIGSEGV);
    ticks();
    expect_action(NULL, SA_SIGINFO);
    change(SIG_UNBLOCK, SIGSEGV);

    /* Ignored. */
    CHECK(signal(SIGSEGV, SIG_IGN) != SIG_ERR);
    for (int i = 0; i < 10; i++) {
        ticks();
        ticks_and_processor();
        CHECK(raise(SIGSEGV) == 0);
    }
    CHECK(signal(SIGSEGV, SIG_DFL) == SIG_IGN);

    execute("b");
    execute("i");
    execute("bi");
    execute("bp");
    execute("-");
    CHECK(ticks() > first);
    printf("%llu\n", (unsigned long long)ticks());
    return 0;
}

/* A call that waits with a time limit is continued by restart_syscall, after a stop of the process (SIGSTOP, SIGCONT) and
 * after a stop for its tracer. That is a call of its own for filters and for user dispatch. */
#include "filters.h"
#include "tracing.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#define EVENT(event) (SIGTRAP | (event) << 8)
#define EVENT_GROUP_STOP (SIGSTOP | PTRACE_EVENT_STOP << 8)
#define SET_DISPATCH 59 /* PR_SET_SYSCALL_USER_DISPATCH */

static const struct timespec LONG = {20, 0};

/* Shared with the children. */
static struct {
    volatile pid_t waiting;  /* the task that is about to wait */
    volatile char selector;  /* of user dispatch */
    volatile long restarted; /* the call that was dispatched */
} * shared;

static long by_nanosleep(void) { return syscall(SYS_nanosleep, &LONG, NULL); }
static long by_clock(void) { return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &LONG, NULL); }
static long by_poll(void) { return syscall(SYS_poll, NULL, 0, 20000); }
static long by_futex(void) {
    static int word;
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &LONG, NULL, 0);
}
static long (*const waits[])(void) = {by_nanosleep, by_clock, by_poll, by_futex};
#define WAITS (sizeof waits / sizeof *waits)

/* Waits, and exits with the error. */
static void *wait_and_exit(void *wait) {
    const pid_t self = (pid_t)syscall(SYS_gettid);
    shared->waiting = self;
    long result = (*(long (**)(void))wait)();
    CHECK(result == -1);
    _exit(errno);
}

/* Comes back when the child sleeps in its call. */
static void until_it_waits(void) {
    while (shared->waiting == 0)
        sleep_ms(1);
    wait_until_it_sleeps(shared->waiting);
}

/* A child that waits, under a filter that does `action` at restart_syscall. */
static pid_t start(unsigned action, long (*const *wait)(void), int in_thread) {
    shared->waiting = 0;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        promise();
        install_for(SYS_restart_syscall, action);
        if (!in_thread)
            wait_and_exit((void *)wait);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, wait_and_exit, (void *)wait) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    until_it_waits();
    return child;
}

static void stop_and_continue(pid_t child) {
    int status;
    CHECK(kill(child, SIGSTOP) == 0);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    CHECK(kill(child, SIGCONT) == 0);
}

static void by_job_control(void) {
    for (size_t i = 0; i < 2 * WAITS; i++) {
        pid_t child = start(SECCOMP_RET_ERRNO | EDOM, &waits[i % WAITS], i >= WAITS);
        stop_and_continue(child);
        expect_exit(child, EDOM);
    }
    pid_t child = start(SECCOMP_RET_KILL_PROCESS, &waits[0], 0);
    stop_and_continue(child);
    expect_death(child, SIGSYS);
    /* The second stop, too. */
    child = start(SECCOMP_RET_ALLOW, &waits[0], 0);
    stop_and_continue(child);
    wait_until_it_sleeps(child);
    stop_and_continue(child);
    CHECK(kill(child, SIGKILL) == 0);
    expect_death(child, SIGKILL);
}

/* The tracer is asked about the restart, and takes it away. */
static void expect_filter(pid_t child) {
    unsigned long data;
    struct user_regs_struct regs;
    CHECK(wait_for_stop(child) == EVENT(PTRACE_EVENT_SECCOMP));
    CHECK(ptrace(PTRACE_GETEVENTMSG, child, 0, &data) == 0 && data == 0x77);
    CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0 && regs.orig_rax == SYS_restart_syscall);
    regs.orig_rax = (unsigned long)-1;
    regs.rax = (unsigned long)-EDOM;
    CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    expect_exit(child, EDOM);
}

static pid_t start_traced(size_t i) {
    pid_t child = start(SECCOMP_RET_TRACE | 0x77, &waits[i % WAITS], 0);
    CHECK(ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL) == 0);
    return child;
}

static void by_tracer(void) {
    for (size_t i = 0; i < WAITS; i++) {
        pid_t child = start_traced(i); /* a signal that the tracer takes away */
        CHECK(kill(child, SIGUSR1) == 0);
        CHECK(wait_for_stop(child) == SIGUSR1);
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        expect_filter(child);

        child = start_traced(i); /* one that would be ignored anyway */
        CHECK(kill(child, SIGURG) == 0);
        CHECK(wait_for_stop(child) == SIGURG);
        CHECK(ptrace(PTRACE_CONT, child, 0, SIGURG) == 0);
        expect_filter(child);

        child = start_traced(i); /* a request of the tracer */
        CHECK(ptrace(PTRACE_INTERRUPT, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == EVENT(PTRACE_EVENT_STOP));
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        expect_filter(child);

        child = start_traced(i); /* a stop of the process */
        CHECK(kill(child, SIGSTOP) == 0);
        CHECK(wait_for_stop(child) == SIGSTOP);
        CHECK(ptrace(PTRACE_CONT, child, 0, SIGSTOP) == 0);
        CHECK(wait_for_stop(child) == EVENT_GROUP_STOP);
        CHECK(ptrace(PTRACE_LISTEN, child, 0, 0) == 0);
        CHECK(kill(child, SIGCONT) == 0);
        CHECK(wait_for_stop(child) == EVENT(PTRACE_EVENT_STOP));
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == SIGCONT);
        CHECK(ptrace(PTRACE_CONT, child, 0, SIGCONT) == 0);
        expect_filter(child);
    }
}

static void on_dispatch(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    shared->selector = 0;
    shared->restarted = info->si_syscall;
    _exit(9);
}

static void by_user_dispatch(void) {
    shared->waiting = 0;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_dispatch;
        action.sa_flags = SA_SIGINFO;
        CHECK(sigaction(SIGSYS, &action, NULL) == 0);
        CHECK(prctl(SET_DISPATCH, 1, 0, 0, &shared->selector) == 0);
        wait_and_exit((void *)&waits[0]);
    }
    until_it_waits();
    shared->selector = 1;
    stop_and_continue(child);
    expect_exit(child, 9);
    CHECK(shared->restarted == SYS_restart_syscall);
}

int main(void) {
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    by_job_control();
    by_tracer();
    by_user_dispatch();
    return 0;
}

/* Tracers that are threads, and tracers that die: any thread of the tracer's process can wait for its
 * tracees, and the tracees of a dead tracer continue. Also a traced thread that ends, and a traced
 * process that a signal kills. */
#include "guest.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

static pid_t child;
static int from_child[2], to_child[2];

static void *trace_in_thread(void *unused) {
    CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == 0);
    int status;
    CHECK(waitpid(child, &status, __WNOTHREAD) == child);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(kill(child, SIGUSR1) == 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGUSR1);
    /* The thread ends. Its tracee continues without the signal that was reported to the thread. */
    return unused;
}

static void on_usr1(int signal) {
    char byte = (char)signal;
    CHECK(write(from_child[1], &byte, 1) == 1);
}

static _Noreturn void be_child(void) {
    CHECK(signal(SIGUSR1, on_usr1) != SIG_ERR);
    CHECK(write(from_child[1], "r", 1) == 1);
    for (;;) {
        char byte;
        read_all(to_child[0], &byte, 1);
        CHECK(write(from_child[1], &byte, 1) == 1);
    }
}

static char heard(void) {
    char byte;
    read_all(from_child[0], &byte, 1);
    return byte;
}

static void *blocked_thread(void *number) {
    *(volatile pid_t *)number = (pid_t)syscall(SYS_gettid);
    char byte;
    read_all(to_child[0], &byte, 1);
    return NULL;
}

/* A grandchild attaches to a thread of ours, which then ends. */
static void thread_ends(void) {
    volatile pid_t tid = 0;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, blocked_thread, (void *)&tid) == 0);
    while (tid == 0) {
        sched_yield();
    }
    int ready[2], go[2];
    CHECK(pipe(ready) == 0 && pipe(go) == 0);
    pid_t tracer = fork();
    CHECK(tracer >= 0);
    if (tracer == 0) {
        char byte;
        read_all(go[0], &byte, 1);
        CHECK(ptrace(PTRACE_SEIZE, tid, 0, 0) == 0);
        CHECK(ptrace(PTRACE_INTERRUPT, tid, 0, 0) == 0);
        int status;
        CHECK(waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status));
        CHECK(ptrace(PTRACE_CONT, tid, 0, 0) == 0);
        write_all(ready[1], "r", 1);
        CHECK(waitpid(-1, &status, __WALL) == tid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(waitpid(-1, &status, __WALL) == -1 && errno == ECHILD);
        _exit(6);
    }
    prctl(PR_SET_PTRACER, tracer, 0, 0, 0);
    write_all(go[1], "g", 1);
    char byte;
    read_all(ready[0], &byte, 1);
    write_all(to_child[1], "e", 1);
    CHECK(pthread_join(thread, NULL) == 0);
    expect_exit(tracer, 6);
}

/* A process that waits to be traced. */
static pid_t start_victim(void) {
    pid_t victim = fork();
    CHECK(victim >= 0);
    if (victim == 0) {
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
        for (;;) {
            pause();
        }
    }
    return victim;
}

/* The tracer is not the parent of the process that dies while traced; the parent is informed, too. */
static void process_dies(void) {
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t victim = start_victim();
    pid_t tracer = fork();
    CHECK(tracer >= 0);
    if (tracer == 0) {
        sleep_ms(1);
        CHECK(ptrace(PTRACE_ATTACH, victim, 0, 0) == 0);
        int status;
        CHECK(waitpid(victim, &status, 0) == victim && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
        CHECK(ptrace(PTRACE_CONT, victim, 0, 0) == 0);
        CHECK(kill(victim, SIGTERM) == 0);
        CHECK(waitpid(victim, &status, 0) == victim && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTERM);
        CHECK(ptrace(PTRACE_CONT, victim, 0, SIGTERM) == 0);
        CHECK(waitpid(victim, &status, 0) == victim && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
        _exit(7);
    }
    expect_exit(tracer, 7);
    expect_death(victim, SIGTERM);
}

/* With PTRACE_O_EXITKILL the tracee dies with its tracer. */
static void dies_with_tracer(void) {
    pid_t victim = start_victim();
    pid_t tracer = fork();
    CHECK(tracer >= 0);
    if (tracer == 0) {
        sleep_ms(1);
        CHECK(ptrace(PTRACE_SEIZE, victim, 0, PTRACE_O_EXITKILL) == 0);
        _exit(8);
    }
    expect_exit(tracer, 8);
    expect_death(victim, SIGKILL);
}

/* Killed while it is stopped for its tracer. */
static void killed_in_stop(void) {
    for (int i = 0; i < 2; i++) {
        pid_t victim = fork();
        CHECK(victim >= 0);
        if (victim == 0) {
            CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
            raise(SIGSTOP);
            _exit(1);
        }
        int status;
        CHECK(waitpid(victim, &status, 0) == victim && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
        if (i == 0) {
            CHECK(kill(victim, SIGKILL) == 0);
        } else {
            CHECK(ptrace(PTRACE_KILL, victim, 0, 0) == 0);
        }
        expect_death(victim, SIGKILL);
    }
}

static volatile int children;

static void on_child(int signal, siginfo_t *info, void *context) {
    (void)context;
    children += signal == SIGCHLD && info->si_pid == child && info->si_code == CLD_TRAPPED;
}

/* Each stop causes a SIGCHLD. */
static void signals_come(void) {
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    sigset_t only, before;
    sigemptyset(&only);
    sigaddset(&only, SIGCHLD);
    CHECK(sigprocmask(SIG_BLOCK, &only, &before) == 0);
    CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == 0);
    while (children == 0) {
        sigsuspend(&before);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
    CHECK(children == 1);
    CHECK(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
}

int main(void) {
    CHECK(pipe(from_child) == 0 && pipe(to_child) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        be_child();
    }
    CHECK(heard() == 'r');
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, trace_in_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    write_all(to_child[1], "x", 1);
    CHECK(heard() == 'x');
    CHECK(waitpid(child, NULL, WNOHANG) == 0);
    signals_come();
    write_all(to_child[1], "y", 1);
    CHECK(heard() == 'y');
    CHECK(kill(child, SIGKILL) == 0);
    expect_death(child, SIGKILL);
    thread_ends();
    process_dies();
    dies_with_tracer();
    killed_in_stop();
    puts("done");
    return 0;
}

/* Filters that kill: a thread, a process, the last thread; and strict mode. */
#include "filters.h"
#include <pthread.h>
#include <sys/resource.h>

static int line[2];

/* Another thread makes the forbidden call. */
static void *forbidden(void *argument) {
    install_for(SYS_getppid, (unsigned)(uintptr_t)argument);
    for (int i = 0; i < 3; i++) {
        CHECK(syscall(SYS_getpid) == getpid());
    }
    syscall(SYS_getppid);
    CHECK(!"it lived");
    return NULL;
}

static void start(unsigned action) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, forbidden, (void *)(uintptr_t)action) == 0);
    pthread_join(thread, NULL);
}

static void thread_dies(void) {
    for (int i = 0; i < 3; i++) {
        start(SECCOMP_RET_KILL_THREAD);
    }
    write_all(line[1], "lived", 5);
    _exit(4);
}

static void process_dies(void) {
    start(SECCOMP_RET_KILL_PROCESS);
}

static void unknown_action(void) {
    start(0x7ffb0000);
}

static void last_dies(void) {
    install_for(SYS_getppid, SECCOMP_RET_KILL_THREAD);
    syscall(SYS_getppid);
}

/* The first thread dies, and the others go on. */
static void *after_first(void *argument) {
    sleep_ms(20);
    write_all(line[1], "lived", 5);
    (void)argument;
    _exit(6);
}

static void first_dies(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, after_first, NULL) == 0);
    last_dies();
}

/* Whatever a program does with signals, it dies. */
static void saved_by_nothing(void) {
    signal(SIGSYS, SIG_IGN);
    sigset_t set;
    sigfillset(&set);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    last_dies();
}

static void in_child_of_vfork(void) {
    install_for(SYS_getppid, SECCOMP_RET_KILL_PROCESS);
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        syscall(SYS_getppid);
        _exit(1);
    }
    expect_death(child, SIGSYS);
    _exit(4);
}

static void strictly(long number) {
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    for (int i = 0; i < 3; i++) {
        write_all(line[1], "x", 1);
    }
    syscall(number, 5, 0, 0);
}
static void strictly_exits(void) { strictly(SYS_exit); }
static void strictly_forbidden(void) { strictly(SYS_exit_group); }
static void strictly_asks(void) { strictly(SYS_getpid); }

/* Not even the time-stamp counter may be read. */
static void strictly_reads_counter(void) {
    CHECK(__builtin_ia32_rdtsc() != 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    syscall(SYS_exit, __builtin_ia32_rdtsc() != 0 ? 5 : 6);
}

static void on_signal(int signal) { (void)signal; }
static void strictly_returns(void) {
    signal(SIGALRM, on_signal);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL) == 0);
    /* The end of a handler is allowed: the signal comes from the parent. */
    char byte;
    for (int i = 0; i < 2; i++) {
        while (syscall(SYS_read, line[0], &byte, 1) != 1) {
        }
    }
    syscall(SYS_exit, 5);
}

static int is_confined(void) { return prctl(PR_GET_SECCOMP) != 0; }

static void run(void (*part)(void), int signal, int status, size_t says) {
    char text[8];
    CHECK(pipe(line) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        part();
        _exit(3);
    }
    if (says > 0) {
        read_all(line[0], text, says);
    }
    if (signal != 0) {
        expect_death(child, signal);
    } else {
        expect_exit(child, status);
    }
    close(line[0]);
    close(line[1]);
}

int main(void) {
    struct rlimit none = {0, 0};
    CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
    promise();
    run(thread_dies, 0, 4, 5);
    run(process_dies, SIGSYS, 0, 0);
    run(unknown_action, SIGSYS, 0, 0);
    run(last_dies, SIGSYS, 0, 0);
    run(first_dies, 0, 6, 5);
    run(saved_by_nothing, SIGSYS, 0, 0);
    run(in_child_of_vfork, 0, 4, 0);
    if (!is_confined()) {
        run(strictly_exits, 0, 5, 3);
        run(strictly_forbidden, SIGKILL, 0, 3);
        run(strictly_asks, SIGKILL, 0, 3);
        run(strictly_reads_counter, SIGSEGV, 0, 0);

        CHECK(pipe(line) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            strictly_returns();
        }
        sleep_ms(10);
        CHECK(kill(child, SIGALRM) == 0);
        sleep_ms(10);
        write_all(line[1], "ab", 2);
        expect_exit(child, 5);
    }
    printf("%d\n", getpid());
    return 0;
}

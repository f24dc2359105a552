/* clone3 with all that clone does and what only it can: exit signals, words for tids and descriptors, stacks,
 * vfork, handlers that the child does not get, chosen tids, and its errors. */
#include "guest.h"
#include <linux/futex.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <poll.h>

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ull
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ull
#endif

static long clone3(const void *args, size_t size) {
    return syscall(SYS_clone3, args, size);
}

static uint64_t address(const volatile void *p) {
    return (uint64_t)(uintptr_t)p;
}

static void on_signal(int signal) {
    (void)signal;
}

static void fails(const void *args, size_t size, int error) {
    errno = 0;
    long child = clone3(args, size);
    if (child == 0) {
        _exit(98);
    }
    CHECK(child == -1);
    CHECK(errno == error);
}

/* Both words in the parent, the word in the child, and a descriptor that says when the child has ended. */
static void words(void) {
    static volatile int child_tid, parent_tid, pidfd = -7;
    struct clone_args args = {.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_PIDFD,
                              .exit_signal = SIGCHLD,
                              .parent_tid = address(&parent_tid),
                              .child_tid = address(&child_tid),
                              .pidfd = address(&pidfd)};
    long child = clone3(&args, sizeof args);
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(child_tid == getpid());
        _exit(11);
    }
    CHECK(parent_tid == child && child_tid == 0 && pidfd >= 0);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    CHECK(poll(&ended, 1, -1) == 1);
    expect_exit((pid_t)child, 11);
    close(pidfd);
    printf("words: %ld, descriptor %d\n", child, pidfd);
}

/* The parent is told of the end by another signal, or not at all. */
static void exit_signals(void) {
    signal(SIGUSR1, on_signal);
    const int signals[] = {SIGUSR1, 0};
    for (int i = 0; i < 2; i++) {
        struct clone_args args = {.exit_signal = (uint64_t)signals[i]};
        long child = clone3(&args, CLONE_ARGS_SIZE_VER0);
        CHECK(child >= 0);
        if (child == 0) {
            _exit(12);
        }
        CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
        int status;
        pid_t got;
        while ((got = waitpid((pid_t)child, &status, __WCLONE)) == -1) {
            CHECK(errno == EINTR);
        }
        CHECK(got == child && WIFEXITED(status) && WEXITSTATUS(status) == 12);
    }
}

static int started;

__attribute__((noreturn)) static void in_thread(void) {
    __atomic_store_n(&started, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        syscall(SYS_exit, 0);
    }
}

/* A thread on a stack of its own. The kernel clears a word when it ends. */
static void thread(void) {
    const size_t size = 65536;
    char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    static volatile int tid;
    register void (*run)(void) __asm__("r12") = in_thread;
    struct clone_args args = {.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                       CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
                              .parent_tid = address(&tid),
                              .child_tid = address(&tid),
                              .stack = address(stack),
                              .stack_size = size - 8};
    /* The child begins on an empty stack, so nothing of this function's frame is there. */
    long child;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "call *%%r12\n"
                     "1:"
                     : "=a"(child)
                     : "a"((long)SYS_clone3), "D"(&args), "S"(sizeof args), "r"(run)
                     : "rcx", "r11", "memory");
    CHECK(child > 0);
    int now;
    while ((now = tid) != 0) {
        syscall(SYS_futex, &tid, FUTEX_WAIT, now, NULL, NULL, 0);
    }
    CHECK(started == 1);
    printf("thread %ld\n", child);
}

/* The structure is in memory that cannot be written, and the parent waits for the child. */
static void vfork_like(void) {
    struct clone_args *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(args != MAP_FAILED);
    args->flags = CLONE_VFORK;
    args->exit_signal = SIGCHLD;
    CHECK(mprotect(args, 4096, PROT_READ) == 0);
    int ends[2];
    CHECK(pipe(ends) == 0);
    long child = clone3(args, 4096 /* all that is behind it is 0 */);
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(args->flags == CLONE_VFORK);
        sleep_ms(5);
        CHECK(write(ends[1], "x", 1) == 1);
        _exit(13);
    }
    CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    char byte;
    CHECK(read(ends[0], &byte, 1) == 1); /* it has written already */
    CHECK(args->flags == CLONE_VFORK && args->exit_signal == SIGCHLD);
    expect_exit((pid_t)child, 13);
}

/* The child has default actions where the parent has handlers. */
static void clear_handlers(void) {
    const int signals[] = {SIGUSR1, SIGSEGV, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < 4; i++) {
        signal(signals[i], on_signal);
    }
    signal(SIGUSR2, SIG_IGN);
    struct clone_args args = {.flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    long child = clone3(&args, sizeof args);
    CHECK(child >= 0);
    struct sigaction action;
    if (child == 0) {
        for (size_t i = 0; i < 4; i++) {
            CHECK(sigaction(signals[i], NULL, &action) == 0 && action.sa_handler == SIG_DFL);
        }
        CHECK(sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
        raise(SIGTRAP);
        _exit(98);
    }
    expect_death((pid_t)child, SIGTRAP);
    for (size_t i = 0; i < 4; i++) {
        CHECK(sigaction(signals[i], NULL, &action) == 0 && action.sa_handler == on_signal);
        signal(signals[i], SIG_DFL);
    }
    /* clone(2) does not know that flag: the kernel ignores the upper half of its flags. */
    signal(SIGSEGV, on_signal);
    child = syscall(SYS_clone, CLONE_CLEAR_SIGHAND | SIGCHLD, NULL, NULL, NULL, 0);
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(sigaction(SIGSEGV, NULL, &action) == 0 && action.sa_handler == on_signal);
        _exit(14);
    }
    expect_exit((pid_t)child, 14);
    signal(SIGSEGV, SIG_DFL);
}

/* A tid of the caller's choice, where it has the privilege. */
static void chosen_tid(void) {
    struct clone_args plain = {.exit_signal = SIGCHLD};
    long child = clone3(&plain, sizeof plain);
    if (child == 0) {
        _exit(15);
    }
    expect_exit((pid_t)child, 15);
    pid_t wanted = (pid_t)child; /* free again */
    struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = address(&wanted), .set_tid_size = 1};
    long again = clone3(&args, sizeof args);
    if (again == 0) {
        CHECK(getpid() == wanted);
        _exit(16);
    }
    if (again < 0) {
        CHECK(errno == EPERM || errno == EEXIST);
    } else {
        CHECK(again == wanted);
        expect_exit((pid_t)again, 16);
    }
    args.set_tid_size = 33; /* more than there can be pid namespaces */
    fails(&args, sizeof args, EINVAL);
}

static void errors(void) {
    struct {
        struct clone_args args;
        char more[16];
    } larger = {.args = {.exit_signal = SIGCHLD}};
    struct clone_args *args = &larger.args;
    fails(args, CLONE_ARGS_SIZE_VER0 - 1, EINVAL);
    fails(args, 4097, E2BIG);
    fails(NULL, sizeof *args, EFAULT);
    fails((void *)0xdead0000, sizeof *args, EFAULT);
    larger.more[15] = 1;
    fails(args, sizeof larger, E2BIG);
    args->exit_signal = 65;
    fails(args, sizeof *args, EINVAL);
    args->exit_signal = 0x100000011;
    fails(args, sizeof *args, EINVAL);
    args->exit_signal = SIGCHLD;
    args->flags = 0x11;
    fails(args, sizeof *args, EINVAL);
    args->flags = 1ull << 40;
    fails(args, sizeof *args, EINVAL);
    args->flags = CLONE_THREAD;
    args->exit_signal = 0;
    fails(args, sizeof *args, EINVAL);
    args->flags = CLONE_SIGHAND | CLONE_VM | CLONE_CLEAR_SIGHAND;
    fails(args, sizeof *args, EINVAL);
    args->flags = CLONE_INTO_CGROUP;
    args->cgroup = 12345;
    fails(args, sizeof *args, EBADF);
    args->flags = CLONE_PIDFD;
    args->pidfd = 8; /* not there */
    fails(args, sizeof *args, EFAULT);
    args->flags = 0;
    args->stack_size = 4096; /* of no stack */
    fails(args, sizeof *args, EINVAL);
}

int main(void) {
    words();
    exit_signals();
    thread();
    vfork_like();
    clear_handlers();
    chosen_tid();
    errors();
    puts("done");
    return 0;
}

/* System calls that become signals at the program's own wish, as emulators of other systems use them. */
#include "guest.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <ucontext.h>

#define SET_DISPATCH 59 /* PR_SET_SYSCALL_USER_DISPATCH */
enum { OFF, ON, INCLUSIVE };
enum { ALLOW, BLOCK };

static volatile char selector;
static volatile long number, argument;
extern char behind_call[], begin_calls[], end_calls[];

/* A system call of this program's own code. */
__attribute__((noinline)) static long call(long n, long a) {
    long result;
    __asm__ volatile(".globl begin_calls, behind_call, end_calls\n"
                     "begin_calls:\n\t"
                     "syscall\n"
                     "behind_call:\n\t"
                     "nop\n"
                     "end_calls:"
                     : "=a"(result)
                     : "a"(n), "D"(a)
                     : "rcx", "r11", "memory");
    return result;
}

static void on_call(int signal, siginfo_t *info, void *context) {
    selector = ALLOW; /* also for the return from here */
    ucontext_t *at = context;
    CHECK(signal == SIGSYS && info->si_code == 2 /* SYS_USER_DISPATCH */ && info->si_errno == 0);
    CHECK(info->si_call_addr == behind_call && info->si_arch == 0xc000003e);
    number = info->si_syscall;
    CHECK(at->uc_mcontext.gregs[REG_RAX] == number);
    CHECK(at->uc_mcontext.gregs[REG_RIP] == (greg_t)(uintptr_t)behind_call);
    argument = at->uc_mcontext.gregs[REG_RDI];
    at->uc_mcontext.gregs[REG_RAX] = number + argument;
}

static void handle(void) {
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
}

static long blocked(long n, long a) {
    selector = BLOCK;
    long result = call(n, a);
    CHECK(selector == ALLOW);
    CHECK(number == n && argument == a);
    return result;
}

static void *in_thread(void *arg) {
    /* A thread begins without the setting. */
    selector = BLOCK;
    CHECK(call(SYS_getppid, 0) == getppid());
    selector = ALLOW;
    return arg;
}

/* Only what the selector says: each call twice, so that the library could make the second. */
static void selected(void) {
    CHECK(prctl(SET_DISPATCH, ON, 0, 0, &selector) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(call(SYS_getppid, 0) == getppid());
        CHECK(blocked(SYS_getppid, 5) == SYS_getppid + 5);
        CHECK(blocked(12345, i) == 12345 + i);
        CHECK(blocked(SYS_exit_group, 77) == SYS_exit_group + 77);
    }
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        selector = BLOCK;
        CHECK(call(SYS_getppid, 0) == getppid());
        _exit(5);
    }
    expect_exit(child, 5);
    CHECK(blocked(SYS_getpid, 1) == SYS_getpid + 1);
    CHECK(prctl(SET_DISPATCH, OFF, 0, 0, 0) == 0);
    selector = BLOCK;
    CHECK(call(SYS_getppid, 0) == getppid());
    selector = ALLOW;
}

/* A region whose calls are made, and one whose calls are not. */
static void regions(void) {
    unsigned long begin = (unsigned long)begin_calls, length = (unsigned long)(end_calls - begin_calls);
    CHECK(prctl(SET_DISPATCH, ON, begin, length, &selector) == 0);
    selector = BLOCK;
    CHECK(call(SYS_getppid, 0) > 0);
    selector = ALLOW;
    CHECK(prctl(SET_DISPATCH, OFF, 0, 0, 0) == 0);
    if (prctl(SET_DISPATCH, INCLUSIVE, begin, length, &selector) != 0) {
        CHECK(errno == EINVAL); /* before Linux 6.17 */
        return;
    }
    selector = BLOCK;
    pid_t parent = getppid(); /* of the C library */
    CHECK(selector == BLOCK);
    CHECK(blocked(SYS_getppid, 3) == SYS_getppid + 3);
    CHECK(call(SYS_getppid, 0) == parent);
    CHECK(prctl(SET_DISPATCH, OFF, 0, 0, 0) == 0);
}

static void fails(long mode, unsigned long begin, unsigned long length, unsigned long at, int error) {
    CHECK(syscall(SYS_prctl, SET_DISPATCH, mode, begin, length, at) == -1);
    CHECK(errno == error);
}

static void errors(void) {
    fails(7, 0, 0, 0, EINVAL);
    fails(-1, 0, 0, 0, EINVAL);
    fails(OFF, 1, 0, 0, EINVAL);
    fails(OFF, 0, 0, (unsigned long)&selector, EINVAL);
    fails(ON, 1, 0, 0, EINVAL);
    fails(ON, 4096, -1ul, 0, EINVAL);
    fails(ON, 0, 0, 1ul << 63, EFAULT);
    fails(INCLUSIVE, 4096, 0, 0, EINVAL);
}

/* Selectors that say nothing, or are not there, and nobody who handles the signal. */
static void deaths(void) {
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(at != MAP_FAILED);
            unsigned long begin = (unsigned long)begin_calls, length = (unsigned long)(end_calls - begin_calls);
            if (i == 2) {
                signal(SIGSYS, SIG_DFL);
            }
            CHECK(prctl(SET_DISPATCH, ON, begin, length, at) == 0);
            if (i == 1) {
                CHECK(munmap(at, 4096) == 0);
            } else {
                *at = i == 0 ? 2 : BLOCK;
            }
            getppid();
            call(SYS_exit_group, 98);
        }
        expect_death(child, i == 1 ? SIGSEGV : SIGSYS);
    }
}

int main(void) {
    handle();
    selected();
    regions();
    errors();
    deaths();
    puts("done");
    return 0;
}

/* For filters, calls by `int 0x80` are of another architecture. (In a recording, such calls fail with
 * ENOSYS if a filter allows them.) */
#include "filters.h"
#include <sys/resource.h>

static volatile siginfo_t last;
static void on_trap(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    last = *info;
}

static long old_call(long number, long a) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

/* Numbers of i386: getppid 64, getpgrp 65, setuid 23 (whose argument is in ebx), geteuid 49. */
static void confine(void) {
    struct filter f = {.length = 0};
    load(&f, ARCH);
    add(&f, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 1, 0);
    answer(&f, SECCOMP_RET_ALLOW);
    load(&f, NUMBER);
    answer_if(&f, 64, SECCOMP_RET_ERRNO | EDOM);
    answer_if(&f, 65, SECCOMP_RET_TRAP | 9);
    answer_if(&f, 49, SECCOMP_RET_KILL_PROCESS);
    add(&f, BPF_JMP | BPF_JEQ | BPF_K, 23, 0, 2);
    load(&f, ARGUMENT(0));
    answer_if(&f, 1234, SECCOMP_RET_ERRNO | EILSEQ);
    answer(&f, SECCOMP_RET_ALLOW);
    CHECK(install_with(&f, 0) == 0);
}

static void child(void) {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    confine();
    for (int i = 0; i < 3; i++) {
        CHECK(old_call(64, 0) == -EDOM && old_call(23, 1234) == -EILSEQ);
        CHECK(syscall(SYS_getppid) == getppid());
        /* (This is not the result of a 32-bit call, but the value in the signal's frame.) */
        CHECK((int)old_call(65, 0) == 65);
        CHECK(last.si_errno == 9 && last.si_syscall == 65 && last.si_arch == AUDIT_ARCH_I386);
    }
    old_call(49, 0);
    _exit(1);
}

int main(void) {
    struct rlimit none = {0, 0};
    CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
    promise();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        child();
    }
    expect_death(pid, SIGSYS);
    printf("%d\n", getpid());
    return 0;
}

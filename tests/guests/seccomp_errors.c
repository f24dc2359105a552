/* Filters that answer calls with errors, some depending on arguments; several filters at once; and what
 * /proc shows of them. */
#include "filters.h"
#include <sys/mman.h>

static struct outside before;

static int fails_with(long result) { return result == -1 ? errno : 0; }

/* Four times each, so that the library could make the later ones. */
static void expect(long number, long a, long b, int error) {
    for (int i = 0; i < 4; i++) {
        CHECK(fails_with(syscall(number, a, b, 0, 0, 0, 0)) == error);
    }
}

static void by_number(void) {
    /* Calls that are buffered, and some that are not. */
    expect(SYS_getppid, 0, 0, 0);
    expect(SYS_sched_get_priority_max, 0, 0, 0);
    install_for(SYS_getppid, SECCOMP_RET_ERRNO | ENOTTY);
    expect_status(before, 1, 1);
    install_for(SYS_sched_get_priority_max, SECCOMP_RET_ERRNO | EDOM);
    install_for(SYS_getpgrp, SECCOMP_RET_ERRNO | 0);
    install_for(SYS_getuid, SECCOMP_RET_ERRNO | 0xffff);
    install_for(SYS_getgid, SECCOMP_RET_LOG);
    install_for(SYS_geteuid, SECCOMP_RET_TRACE | 7);
    install_for(SYS_getegid, SECCOMP_RET_USER_NOTIF);
    expect(SYS_getppid, 0, 0, ENOTTY);
    expect(SYS_sched_get_priority_max, 0, 0, EDOM);
    CHECK(syscall(SYS_getpgrp) == 0);
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getuid) : "rcx", "r11", "memory");
    CHECK(result == -4095);
    CHECK(getgid() == getgid());
    expect(SYS_geteuid, 0, 0, ENOSYS);
    expect(SYS_getegid, 0, 0, ENOSYS);
    expect_status(before, 7, 1);
    printf("%d\n", getpid());
}

static void by_arguments(void) {
    int fd = open("/dev/null", O_RDWR);
    CHECK(fd >= 0);
    struct filter f = {.length = 0};
    load(&f, NUMBER);
    add(&f, BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 3);
    load(&f, ARGUMENT(1));
    answer_if(&f, F_GETFL, SECCOMP_RET_ERRNO | EILSEQ);
    load(&f, NUMBER);
    add(&f, BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 4);
    /* The upper half of an offset, by way of memory and the index register. */
    load(&f, ARGUMENT(1) + 4);
    add(&f, BPF_ST, 3, 0, 0);
    add(&f, BPF_LDX | BPF_MEM, 3, 0, 0);
    add(&f, BPF_MISC | BPF_TXA, 0, 0, 0);
    add(&f, BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 1);
    answer(&f, SECCOMP_RET_ERRNO | EFBIG);
    answer(&f, SECCOMP_RET_ALLOW);
    CHECK(install_with(&f, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW) == 0);
    for (int i = 0; i < 4; i++) {
        expect(SYS_fcntl, fd, F_GETFL, EILSEQ);
        expect(SYS_fcntl, fd, F_GETFD, 0);
        expect(SYS_lseek, fd, 5l << 32 | i, EFBIG);
        expect(SYS_lseek, fd, 4l << 32 | i, 0);
    }
    CHECK(close(fd) == 0);
}

/* The most restrictive answer counts; of two errors, the one of the newer filter. */
static void by_priority(void) {
    install_for(SYS_getsid, SECCOMP_RET_ERRNO | 1);
    install_for(SYS_getsid, SECCOMP_RET_TRACE);
    expect(SYS_getsid, 0, 0, 1);
    install_for(SYS_getsid, SECCOMP_RET_ERRNO | 2);
    install_for(SYS_getsid, SECCOMP_RET_ALLOW);
    install_for(SYS_getsid, SECCOMP_RET_LOG);
    install_for(SYS_getsid, SECCOMP_RET_USER_NOTIF);
    expect(SYS_getsid, 0, 0, 2);
    install_for(SYS_getsid, SECCOMP_RET_ERRNO | 3);
    expect(SYS_getsid, 0, 0, 3);
}

/* Calls that the vDSO saves a C library are refused only if the program makes them itself. */
static void by_caller(void) {
    install_for(SYS_clock_gettime, SECCOMP_RET_ERRNO | EDOM);
    install_for(SYS_time, SECCOMP_RET_KILL_PROCESS);
    struct timespec now;
    for (int i = 0; i < 4; i++) {
        CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0 && now.tv_sec > 0 && time(NULL) > 0);
        expect(SYS_clock_gettime, CLOCK_REALTIME, (long)(uintptr_t)&now, EDOM);
        /* The vDSO does not know the clock of a process. */
        CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == -1 && errno == EDOM);
    }
}

/* A signal that is ignored does not interrupt a call, so no call restarts it. */
static void by_restart(void) {
    install_for(SYS_restart_syscall, SECCOMP_RET_KILL_PROCESS);
    const pid_t self = getpid();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 5; i++) {
            sleep_ms(10);
            CHECK(kill(self, SIGURG) == 0);
        }
        _exit(0);
    }
    struct timespec wait = {0, 70000000};
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL) == 0);
    expect_exit(child, 0);
}

/* A filter that checks the address of the call. */
static void by_place(void) {
    struct filter f = {.length = 0};
    extern const char one_place[] __asm__("one_place");
    load(&f, NUMBER);
    add(&f, BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 3);
    load(&f, PLACE);
    answer_if(&f, (long)((uintptr_t)one_place & 0xffffffff), SECCOMP_RET_ERRNO | EXDEV);
    answer(&f, SECCOMP_RET_ALLOW);
    CHECK(install_with(&f, 0) == 0);
    for (int i = 0; i < 4; i++) {
        long result;
        __asm__ volatile("syscall\none_place:" : "=a"(result) : "a"(SYS_getpgid), "D"(0) : "rcx", "r11", "memory");
        CHECK(result == -EXDEV);
        CHECK(getpgid(0) > 0);
    }
}

int main(void) {
    before = outside();
    expect_status(before, 0, 0);
    promise();
    expect_status(before, 0, 1);
    void (*const all[])(void) = {by_number, by_arguments, by_priority, by_caller, by_restart, by_place};
    each_in_a_child(all, sizeof all / sizeof *all);
    expect_status(before, 0, 1);
    printf("%d\n", getpid());
    return 0;
}

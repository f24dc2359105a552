/* ARCH_SET_CPUID: a program makes its own cpuid trap, as far as the processor can. Children inherit the setting, and exec ends it. */
#include "guest.h"
#include <cpuid.h>
#include <setjmp.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#define ARCH_GET_CPUID 0x1011
#define ARCH_SET_CPUID 0x1012

static sigjmp_buf back;
static volatile int code;

static void handler(int signo, siginfo_t *info, void *context) {
    (void)signo;
    ucontext_t *at = context;
    const unsigned char *rip;
    memcpy(&rip, &at->uc_mcontext.gregs[REG_RIP], sizeof rip);
    CHECK(rip[0] == 0x0f);
    code = info->si_code;
    siglongjmp(back, 1);
}

/* Returns 1 if cpuid traps. */
static int traps(void) {
    if (sigsetjmp(back, 1) != 0) {
        CHECK(code == SI_KERNEL);
        return 1;
    }
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    CHECK(a >= 1);
    return 0;
}

static long setting(void) {
    return syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0);
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    CHECK(setting() == 1 && !traps());
    if (argc > 1) {
        return 0;
    }
    long denied = syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    if (denied != 0) {
        /* Not on this processor. */
        CHECK(errno == ENODEV && setting() == 1 && !traps());
    } else {
        CHECK(setting() == 0 && traps() && traps());
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            CHECK(setting() == 0 && traps());
            execl(argv[0], argv[0], "again", (char *)NULL);
            _exit(9);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1) == 0);
        CHECK(setting() == 1 && !traps());
    }
    puts("the setting is the program's own");
    return 0;
}

/* A program that forbids itself the time-stamp counter: each read of it is a SIGSEGV, until it is allowed again. */
#include "guest.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <ucontext.h>

static volatile int faults;

static void on_fault(int signal, siginfo_t *info, void *context) {
    CHECK(signal == SIGSEGV && info->si_code == SI_KERNEL && info->si_addr == NULL);
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)regs[REG_RIP];
    CHECK(at[0] == 0x0f && (at[1] == 0x31 || at[1] == 0x01));
    regs[REG_RIP] += at[1] == 0x31 ? 2 : 3;
    regs[REG_RAX] = 42;
    regs[REG_RDX] = 0;
    faults++;
}

__attribute__((noinline)) static uint64_t counter(void) {
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

__attribute__((noinline)) static uint64_t counter_and_processor(void) {
    uint32_t low, high, processor;
    __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(processor));
    return (uint64_t)high << 32 | low;
}

/* Padding before the instruction has room for jumps, so calls of this function go to the library while they
 * may. */
uint64_t padded_counter(void);
__asm__(".text\n\t"
        "nop\n\t"
        ".byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0\n"
        "padded_counter: rdtsc\n\t"
        "shl $32, %rdx\n\t"
        "or %rdx, %rax\n\t"
        "ret");

static int setting(void) {
    int now = 0;
    CHECK(prctl(PR_GET_TSC, &now, 0, 0, 0) == 0);
    return now;
}

static void denied(int turns) {
    int before = faults;
    for (int i = 0; i < turns; i++) {
        CHECK(counter() == 42);
        CHECK(counter_and_processor() == 42);
        CHECK(padded_counter() == 42);
    }
    CHECK(faults == before + 3 * turns && setting() == PR_TSC_SIGSEGV);
}

static void allowed(int turns) {
    int before = faults;
    uint64_t last = 0;
    for (int i = 0; i < turns; i++) {
        uint64_t now = counter();
        CHECK(now > 42 && now >= last);
        last = counter_and_processor();
        CHECK(last >= now);
        now = padded_counter();
        CHECK(now >= last);
        last = now;
    }
    CHECK(faults == before && setting() == PR_TSC_ENABLE);
}

static void *in_thread(void *arg) {
    denied(2);
    CHECK(prctl(PR_SET_TSC, PR_TSC_ENABLE, 0, 0, 0) == 0);
    allowed(3);
    return arg;
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    if (argc == 2) {
        return 6;
    }
    CHECK(prctl(PR_SET_TSC, 3, 0, 0, 0) == -1 && errno == EINVAL);
    CHECK(prctl(PR_SET_TSC, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHECK(prctl(PR_GET_TSC, 8, 0, 0, 0) == -1 && errno == EFAULT);
    allowed(4); /* often enough to go through the library */
    CHECK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0);
    denied(4);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    denied(1);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        denied(2);
        execl("/proc/self/exe", argv[0], "again", NULL); /* keeps the setting: its loader reads the counter */
        _exit(98);
    }
    expect_death(child, SIGSEGV);
    CHECK(prctl(PR_SET_TSC, PR_TSC_ENABLE, 0, 0, 0) == 0);
    allowed(4);
    /* Nobody handles it. */
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        CHECK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0);
        counter();
        _exit(98);
    }
    expect_death(child, SIGSEGV);
    printf("%d faults\n", faults);
    return 0;
}

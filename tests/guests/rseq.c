// guest: heavy
/* Restartable sequences: what is registered shows the CPU, and a sequence begins anew where another task has run
 * or a signal's handler is called in the middle of it. */
#include "guest.h"
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/time.h>
#include <ucontext.h>

#define SIGNATURE 0x53053053u

/* The kernel's structure, which is longer than that of the C library's header. */
struct area {
    volatile uint32_t cpu_id_start, cpu_id;
    volatile uint64_t rseq_cs;
    uint32_t flags;
    volatile uint32_t node_id, mm_cid, end[9];
} __attribute__((aligned(64)));

static struct area *own(void) {
    return (struct area *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static long rseq(void *area, uint32_t length, int flags, uint32_t signature) {
    return syscall(SYS_rseq, area, length, flags, signature);
}

static void fails(void *area, uint32_t length, int flags, uint32_t signature, int error) {
    errno = 0;
    CHECK(rseq(area, length, flags, signature) == -1);
    CHECK(errno == error);
}

static void check_cpu(const struct area *area) {
    unsigned cpu, node;
    CHECK(syscall(SYS_getcpu, &cpu, &node, NULL) == 0);
    CHECK(area->cpu_id < 4096 && area->cpu_id_start < 4096);
    if (recorded()) {
        CHECK(area->cpu_id == cpu && area->cpu_id_start == cpu);
        CHECK(sched_getcpu() == (int)cpu);
        if (getauxval(27 /* AT_RSEQ_FEATURE_SIZE */) >= 28) {
            CHECK(area->node_id == node && area->mm_cid == 0);
        }
    }
}

/* Registers, with the length of the C library: another one, and again. */
static void registrations(void) {
    struct area *area = own();
    CHECK(__rseq_size >= 20);
    uint32_t length = __rseq_size < 32 ? 32 : __rseq_size;
    fails(area, length, 0, SIGNATURE, EBUSY);
    fails(area, length, 0, 1, EPERM);
    fails(area, length, 1, 1, EPERM);
    fails(area, length, 2, SIGNATURE, EINVAL);
    fails(area, length, 3, SIGNATURE, EINVAL);
    fails(area, length + 32, 0, SIGNATURE, EINVAL);
    fails(area + 1, length, 0, SIGNATURE, EINVAL);
    fails(area + 1, length, 1, SIGNATURE, EINVAL);
    CHECK(rseq(area, length, 1, SIGNATURE) == 0);
    CHECK(area->cpu_id == UINT32_MAX && area->cpu_id_start == 0);
    fails(area, length, 1, SIGNATURE, EINVAL);

    static struct area other;
    fails(&other, 16, 0, SIGNATURE, EINVAL);
    fails((char *)&other + 8, 32, 0, SIGNATURE, EINVAL);
    fails((void *)0x1000, 32, 0, SIGNATURE, EFAULT);
    fails((void *)0x7ffffffff000, 32, 0, SIGNATURE, EFAULT);
    fails((void *)0xffff800000000000, 32, 0, SIGNATURE, EFAULT);
    CHECK(rseq(&other, 32, 0, SIGNATURE) == 0);
    CHECK(other.rseq_cs == 0);
    CHECK(other.cpu_id < 4096);
    CHECK(rseq(&other, 32, 1, SIGNATURE) == 0);
    CHECK(rseq(area, length, 0, SIGNATURE) == 0);
    check_cpu(area);
}

/* A counter that only a sequence may change, and how often sequences began. */
static volatile uint64_t counter, begun;
extern char aborted[];

/* Adds 1 to the counter in a sequence that takes as long as `turns` says. Returns false if it was aborted. */
__attribute__((noinline)) static int add_one(volatile uint64_t *to, uint64_t turns) {
    struct area *area = own();
    __asm__ volatile goto(".pushsection __rseq_cs, \"aw\"\n\t"
                          ".balign 32\n"
                          "3: .long 0, 0\n\t"
                          ".quad 1f, 2f - 1f, 4f\n\t"
                          ".popsection\n\t"
                          "lea 3b(%%rip), %%rax\n\t"
                          "mov %%rax, %[pointer]\n"
                          "1:\n\t"
                          "mov (%[to]), %%rcx\n\t"
                          "mov %[turns], %%rdx\n"
                          "5:\n\t"
                          "dec %%rdx\n\t"
                          "jnz 5b\n\t"
                          "inc %%rcx\n\t"
                          "mov %%rcx, (%[to])\n"
                          "2:\n\t"
                          "jmp 6f\n\t"
                          ".long 0x53053053\n" /* in front of the handler */
                          ".globl aborted\n"
                          "aborted:\n"
                          "4:\n\t"
                          "jmp %l[again]\n"
                          "6:"
                          :
                          : [pointer] "m"(area->rseq_cs), [to] "r"(to), [turns] "r"(turns)
                          : "rax", "rcx", "rdx", "memory", "cc"
                          : again);
    return 1;
again:
    return 0;
}

static void *adds(void *turns) {
    for (int i = 0; i < 20; i++) {
        do {
            __atomic_add_fetch(&begun, 1, __ATOMIC_RELAXED);
        } while (!add_one(&counter, (uint64_t)(uintptr_t)turns));
    }
    return NULL;
}

/* All threads are on one CPU, so what a sequence does is not lost. */
static void threads(void) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    pthread_t all[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&all[i], NULL, adds, (void *)(uintptr_t)2000000) == 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(all[i], NULL) == 0);
    }
    CHECK(counter == 60 && begun >= 60);
    printf("%d sequences begun\n", (int)begun);
}

static volatile int handled;

static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    const ucontext_t *interrupted = context;
    CHECK(interrupted->uc_mcontext.gregs[REG_RIP] == (greg_t)(uintptr_t)aborted);
    CHECK(own()->rseq_cs == 0);
    handled++;
}

/* A handler that is called in a sequence returns to the abort handler. */
static void signals(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval soon = {.it_value.tv_usec = 20000};
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    uint64_t before = counter;
    while (!handled) {
        /* Longer than until the signal: never finished. */
        CHECK(!add_one(&counter, 1ull << 40));
    }
    CHECK(counter == before && handled == 1);
}

/* The same of a fault that the sequence itself causes. */
static void faults(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    handled = 0;
    void *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(none != MAP_FAILED);
    CHECK(!add_one(none, 1));
    CHECK(handled == 1);
}

/* A child has what its parent had, unless they share memory. */
static int in_child(void *length) {
    static struct area fresh;
    _exit(rseq(&fresh, 32, 0, SIGNATURE) == 0 && length != NULL ? 5 : 6);
}

static void children(void) {
    struct area *area = own();
    uint32_t length = __rseq_size < 32 ? 32 : __rseq_size;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_cpu(area);
        fails(area, length, 0, SIGNATURE, EBUSY);
        CHECK(rseq(area, length, 1, SIGNATURE) == 0);
        _exit(4);
    }
    expect_exit(child, 4);
    static char stack[65536] __attribute__((aligned(16)));
    child = clone(in_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, stack);
    CHECK(child > 0);
    expect_exit(child, 5);
    fails(area, length, 0, SIGNATURE, EBUSY);
}

int main(void) {
    check_cpu(own());
    registrations();
    threads();
    signals();
    faults();
    children();
    puts("done");
    return 0;
}

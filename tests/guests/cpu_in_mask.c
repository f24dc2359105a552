/* A program that chooses its CPU with sched_setaffinity finds itself there, whichever way it asks: for itself, for another
 * thread or process, and after fork and exec. */
#include "guest.h"
#include <cpuid.h>
#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>

/* More CPUs show nothing new. */
#define MAX_CPUS 3

static int has_rdpid(void) {
    unsigned a, b, c = 0, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 22 & 1);
}

static void check_list(int cpu) {
    char text[8192], wanted[64];
    int fd = open("/proc/thread-self/status", O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(fd >= 0 && n > 0);
    text[n] = 0;
    close(fd);
    snprintf(wanted, sizeof wanted, "\nCpus_allowed_list:\t%d\n", cpu);
    CHECK(strstr(text, wanted));
    const char *mask = strstr(text, "\nCpus_allowed:\t") + strlen("\nCpus_allowed:\t");
    /* Hexadecimal digits, the lowest CPUs last, with a comma after each 32 CPUs. */
    const char *digit = strchr(mask, '\n') - 1 - cpu / 4 - cpu / 32;
    CHECK(digit >= mask && *digit == "1248"[cpu % 4]);
}

/* The task is on this CPU. */
static void is_on(int cpu) {
    for (int i = 0; i < 20; i++) {
        unsigned shown = -1u, node = -1u, aux;
        CHECK(sched_getcpu() == cpu);
        CHECK(syscall(SYS_getcpu, &shown, &node, NULL) == 0 && shown == (unsigned)cpu && node < 1024);
        __asm__ volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
        CHECK((aux & 0xfff) == (unsigned)cpu);
        if (has_rdpid()) {
            uint64_t pid;
            __asm__ volatile("rdpid %0" : "=r"(pid));
            CHECK((pid & 0xfff) == (unsigned)cpu);
        }
        if (__rseq_size > 0) {
            struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
            volatile uint32_t *id = &area->cpu_id, *start = &area->cpu_id_start;
            CHECK(*id == (unsigned)cpu && *start == (unsigned)cpu);
        }
    }
    check_list(cpu);
}

static void set(pid_t task, int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK(sched_setaffinity(task, sizeof one, &one) == 0);
}

static int to_other[2], from_other[2];

/* Another task: says its number, and is on each CPU that it is told of. */
static void *other(void *unused) {
    int word = (int)syscall(SYS_gettid);
    CHECK(write(from_other[1], &word, sizeof word) == sizeof word);
    while (read(to_other[0], &word, sizeof word) == sizeof word && word >= 0) {
        is_on(word);
        CHECK(write(from_other[1], &word, sizeof word) == sizeof word);
    }
    return unused;
}

static void tell_other(const int *cpus, int count) {
    int number, word;
    CHECK(read(from_other[0], &number, sizeof number) == sizeof number);
    for (int i = 0; i < count; i++) {
        set(number, cpus[i]);
        CHECK(write(to_other[1], &cpus[i], sizeof cpus[i]) == sizeof cpus[i]);
        CHECK(read(from_other[0], &word, sizeof word) == sizeof word && word == cpus[i]);
    }
    word = -1;
    CHECK(write(to_other[1], &word, sizeof word) == sizeof word);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        is_on(atoi(argv[1]));
        return 7;
    }
    cpu_set_t all;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    int cpus[MAX_CPUS], count = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && count < MAX_CPUS; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            cpus[count++] = cpu;
        }
    }
    for (int i = 0; i < count; i++) {
        set(0, cpus[i]);
        is_on(cpus[i]);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            is_on(cpus[i]);
            char text[16];
            snprintf(text, sizeof text, "%d", cpus[i]);
            execl("/proc/self/exe", argv[0], text, NULL);
            _exit(1);
        }
        expect_exit(child, 7);
    }
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
    CHECK(CPU_ISSET(sched_getcpu(), &all));

    CHECK(pipe(to_other) == 0 && pipe(from_other) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, other, NULL) == 0);
    tell_other(cpus, count);
    CHECK(pthread_join(thread, NULL) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        other(NULL);
        _exit(9);
    }
    tell_other(cpus, count);
    expect_exit(child, 9);
    puts("on each CPU");
    return 0;
}

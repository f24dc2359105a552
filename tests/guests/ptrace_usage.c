/* A tracer that asks for the resource usage of its tracee at each stop, as `strace -c` does. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>

enum { PAGES = 300 };

static long microseconds(const struct rusage *usage) {
    return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 + usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
}

/* Uses the processor for some time, and memory. */
static void work(void) {
    struct rusage usage;
    do {
        for (volatile int i = 0; i < 100000; i++) {
        }
        CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    } while (microseconds(&usage) < 25000);
    volatile char *memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    for (int i = 0; i < PAGES; i++) {
        memory[i * 4096] = 1;
    }
}

int main(void) {
    struct rusage *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(own != MAP_FAILED);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        CHECK(raise(SIGSTOP) == 0);
        work();
        CHECK(getrusage(RUSAGE_SELF, own) == 0);
        CHECK(raise(SIGSTOP) == 0);
        _exit(4);
    }
    struct rusage before, after, end;
    int status;
    CHECK(wait4(child, &status, 0, &before) == child && WIFSTOPPED(status));
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(wait4(child, &status, 0, &after) == child && WIFSTOPPED(status));
    CHECK(microseconds(&after) + 1 >= microseconds(own));
    CHECK(microseconds(&after) > microseconds(&before));
    CHECK(after.ru_minflt >= own->ru_minflt && after.ru_minflt >= before.ru_minflt + PAGES);
    CHECK(after.ru_maxrss >= PAGES * 4);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(wait4(child, &status, 0, &end) == child && WIFEXITED(status) && WEXITSTATUS(status) == 4);
    printf("%ld %ld us, %ld faults, %ld KiB\n", microseconds(&before), microseconds(&after), after.ru_minflt, after.ru_maxrss);
    return 0;
}

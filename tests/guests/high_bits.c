/* Arguments of type int: the kernel uses only their low 32 bits, whatever the high bits are. */
#include "guest.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <x86intrin.h>

enum { SIZE = 8 * 4096 };
#define HIGH(value) ((uint64_t)(value) | 5ull << 32)

static volatile sig_atomic_t too_large;

static void on_xfsz(int signal) {
    (void)signal;
    too_large++;
}

static void memory(void) {
    uint64_t seed = fresh_seed();
    unsigned char *area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    for (int round = 0; round < 4; round++) {
        fill_random(area, SIZE, &seed);
        CHECK(syscall(SYS_madvise, area, (size_t)4096, HIGH(MADV_DONTNEED)) == 0);
        CHECK(area[0] == 0 && area[4095] == 0);
        getppid();
    }
    /* The kernel may discard such pages at any time: rr discards them at once. */
    CHECK(syscall(SYS_madvise, area + 4096, (size_t)4096, HIGH(MADV_FREE)) == 0);
    CHECK(!recorded() || area[4096] == 0);
    CHECK(syscall(SYS_madvise, area + 8192, (size_t)4096, HIGH(MADV_WIPEONFORK)) == 0);
    fill_random(area + 4096, 8192, &seed);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(area[8192] == 0 && area[8192 + 4095] == 0);
        getppid();
        _exit(0);
    }
    expect_exit(child, 0);
    printf("%016llx\n", (unsigned long long)checksum(area, SIZE));
}

static void counter(void) {
    CHECK(syscall(SYS_prctl, HIGH(PR_SET_TSC), HIGH(PR_TSC_ENABLE), 0, 0, 0) == 0);
    int mode = 0;
    CHECK(syscall(SYS_prctl, HIGH(PR_GET_TSC), &mode, 0, 0, 0) == 0 && mode == PR_TSC_ENABLE);
    CHECK(syscall(SYS_prctl, PR_GET_TSC, 8, 0, 0, 0) == -1 && errno == EFAULT);
    printf("%llu\n", (unsigned long long)__rdtsc());
}

static void affinity(void) {
    cpu_set_t all, one, now;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all)) {
        cpu++;
    }
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK(syscall(SYS_sched_setaffinity, HIGH(0), sizeof one, &one) == 0);
    CHECK(sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &one));
}

static void file_size(void) {
    struct rlimit limit = {8 * 4096, RLIM_INFINITY};
    signal(SIGXFSZ, on_xfsz);
    CHECK(syscall(SYS_setrlimit, HIGH(RLIMIT_FSIZE), &limit) == 0);
    int fd = open("limited", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    static char block[4096];
    for (int i = 0; i < 16; i++) {
        ssize_t n = write(fd, block, sizeof block);
        CHECK(i < 8 ? n == (ssize_t)sizeof block : n == -1 && errno == EFBIG);
        CHECK(too_large == (i < 8 ? 0 : i - 7));
    }
    close(fd);
}

int main(void) {
    memory();
    counter();
    affinity();
    file_size();
    return 0;
}

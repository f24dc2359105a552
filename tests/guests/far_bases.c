/* A base of GS beyond the program's addresses (WRGSBASE), which no call can set: it stays over calls, signals, threads and forks.
 * Without the instruction (FSGSBASE) there is nothing to do. */
// guest: cflags=-O1,-mfsgsbase,-pthread
#include "guest.h"
#include <pthread.h>
#include <sys/auxv.h>

/* Bit of AT_HWCAP2: the kernel lets programs use the instructions. */
enum { HWCAP2_FSGSBASE = 1 << 1 };

static const uint64_t FAR = 0xffff800000001000;

static void set_base(uint64_t base) { __asm__ volatile("wrgsbase %0" ::"r"(base)); }

static uint64_t base(void) {
    uint64_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

static volatile uint64_t seen;
static void handler(int signal) {
    (void)signal;
    seen = base();
    set_base(FAR + 77);
}

static void *in_thread(void *argument) {
    (void)argument;
    uint64_t inherited = base();
    set_base(FAR + 200);
    CHECK(write(1, ".", 1) == 1);
    CHECK(base() == FAR + 200);
    return (void *)inherited;
}

int main(void) {
    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)) {
        printf("no instruction\n");
        return 0;
    }
    signal(SIGUSR1, handler);
    struct timespec shortly = {0, 1000000};
    for (int i = 0; i < 3; i++) {
        set_base(FAR + i);
        for (int n = 0; n < 4; n++) {
            CHECK(getppid() > 0 && nanosleep(&shortly, NULL) == 0);
            CHECK(base() == FAR + i);
        }
    }
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(seen == FAR + 2 && base() == FAR + 77);

    pthread_t thread;
    void *inherited;
    CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0);
    CHECK(pthread_join(thread, &inherited) == 0);
    printf("a thread begins with %llx, %d\n", (unsigned long long)inherited, getpid());
    fflush(stdout);
    CHECK(base() == FAR + 77);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(base() == FAR + 77);
        set_base(FAR + 300);
        CHECK(nanosleep(&shortly, NULL) == 0 && base() == FAR + 300);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(base() == FAR + 77);
    set_base(4096);
    CHECK(nanosleep(&shortly, NULL) == 0 && base() == 4096);
    return 0;
}

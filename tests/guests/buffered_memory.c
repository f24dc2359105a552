// guest: heavy
/* The calls that change memory and that the library makes itself, each many times at one site: the
 * break, anonymous mappings, protection, advice. Between them come faults, errors, signals, and an end
 * of the interval in the middle of computing. */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>

#define PAGE 4096ul

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) { (void)signal; alarms++; }

/* One site for all calls; the faults come between them. */
static __attribute__((noinline)) long raw(long n, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("nop; nop; nop; nop; nop; syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#define CALL(n, a, b, c, d, e, f) raw(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static sigjmp_buf back;
static volatile sig_atomic_t faults;
static void on_fault(int signal) {
    (void)signal;
    faults++;
    siglongjmp(back, 1);
}
/* Return if reading, or writing, at the address works. */
static int readable(volatile char *at) { return sigsetjmp(back, 1) ? 0 : (*at, 1); }
static int writable(volatile char *at) { return sigsetjmp(back, 1) ? 0 : (*at = *at, 1); }

static void breaks(int round) {
    unsigned long start = (unsigned long)CALL(SYS_brk, 0, 0, 0, 0, 0, 0), now = start;
    for (int i = 1; i < 6; i++) {
        now = (unsigned long)CALL(SYS_brk, now + (unsigned long)i * 3000, 0, 0, 0, 0, 0);
        memset((char *)now - 100, round + i, 100);
    }
    uint64_t sum = checksum((char *)start, now - start);
    CHECK((unsigned long)CALL(SYS_brk, 8, 0, 0, 0, 0, 0) == now);
    CHECK((unsigned long)CALL(SYS_brk, start, 0, 0, 0, 0, 0) == start);
    CHECK((unsigned long)CALL(SYS_brk, now, 0, 0, 0, 0, 0) == now);
    /* Memory that was given back is empty when it is allocated again. */
    unsigned long fresh = (start + PAGE - 1) & ~(PAGE - 1);
    for (unsigned long at = fresh; at < now; at++) {
        CHECK(*(char *)at == 0);
    }
    CHECK((unsigned long)CALL(SYS_brk, start, 0, 0, 0, 0, 0) == start);
    printf("%lx\n", (unsigned long)sum);
}

static long map(unsigned long at, unsigned long len, long prot, long flags) {
    return CALL(SYS_mmap, at, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static void mappings(uint64_t *seed) {
    char *all = (char *)map(0, 20 * PAGE - 5, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    CHECK((long)all > 0);
    fill_random(all, 20 * PAGE, seed);
    /* A hole, and something else in a part of it. */
    CHECK(CALL(SYS_munmap, all + 4 * PAGE, 3 * PAGE - 1, 0, 0, 0, 0) == 0);
    CHECK(!readable(all + 4 * PAGE) && !readable(all + 6 * PAGE) && readable(all + 7 * PAGE));
    CHECK(map((unsigned long)all + 5 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_FIXED) == (long)all + 5 * (long)PAGE);
    CHECK(all[5 * PAGE] == 0 && !readable(all + 4 * PAGE) && writable(all + 5 * PAGE));
    CHECK(map((unsigned long)all + 5 * PAGE, PAGE, PROT_READ, MAP_FIXED_NOREPLACE) == -EEXIST);
    CHECK(map((unsigned long)all + 6 * PAGE, PAGE, PROT_READ, MAP_FIXED_NOREPLACE) == (long)all + 6 * (long)PAGE);
    CHECK(readable(all + 6 * PAGE) && !writable(all + 6 * PAGE));
    /* A hint that the kernel can follow, and one that it cannot. */
    CHECK(map((unsigned long)all + 4 * PAGE, PAGE, PROT_NONE, 0) == (long)all + 4 * (long)PAGE);
    long other = map((unsigned long)all + 4 * PAGE, PAGE, PROT_READ, MAP_POPULATE);
    CHECK(other > 0 && other != (long)all + 4 * (long)PAGE && CALL(SYS_munmap, other, PAGE, 0, 0, 0, 0) == 0);
    /* Errors. */
    CHECK(map(0, 0, PROT_READ, 0) == -EINVAL && map(123, PAGE, PROT_READ, MAP_FIXED) == -EINVAL);
    CHECK(map(0, 1ul << 60, PROT_READ, 0) == -ENOMEM);
    CHECK(CALL(SYS_munmap, all + 1, PAGE, 0, 0, 0, 0) == -EINVAL && CALL(SYS_munmap, all, 0, 0, 0, 0, 0) == -EINVAL);
    CHECK(CALL(SYS_munmap, all, -1, 0, 0, 0, 0) == -EINVAL);
    printf("%lx\n", (unsigned long)checksum(all, 4 * PAGE));
    CHECK(CALL(SYS_munmap, all, 20 * PAGE, 0, 0, 0, 0) == 0);
}

static void rights(int round) {
    char *all = (char *)map(0, 6 * PAGE, PROT_NONE, 0);
    int before = faults;
    for (int i = 0; i < 6; i++) {
        char *page = all + (unsigned long)i * PAGE;
        CHECK(!readable(page));
        CHECK(CALL(SYS_mprotect, page, PAGE, PROT_READ | PROT_WRITE, 0, 0, 0) == 0);
        page[round] = (char)i;
        /* Unmapped and mapped again, many times in one interval. */
        for (int j = 0; j < 5; j++) {
            CHECK(CALL(SYS_mprotect, page, PAGE, PROT_READ, 0, 0, 0) == 0 && page[round] == i);
            CHECK(CALL(SYS_mprotect, page, PAGE, PROT_READ | PROT_WRITE, 0, 0, 0) == 0);
            page[j] = (char)i;
        }
        CHECK(CALL(SYS_mprotect, page, 1, PROT_READ, 0, 0, 0) == 0 && readable(page) && !writable(page));
    }
    CHECK(faults == before + 12);
    /* If there is a hole, the part before it is changed. */
    CHECK(CALL(SYS_munmap, all + 3 * PAGE, PAGE, 0, 0, 0, 0) == 0);
    CHECK(CALL(SYS_mprotect, all, 6 * PAGE, PROT_READ | PROT_WRITE, 0, 0, 0) == -ENOMEM);
    CHECK(writable(all + 2 * PAGE) && !writable(all + 4 * PAGE));
    CHECK(CALL(SYS_mprotect, all + 1, PAGE, PROT_READ, 0, 0, 0) == -EINVAL);
    CHECK(CALL(SYS_mprotect, all, PAGE, 0x40, 0, 0, 0) == -EINVAL);
    CHECK(CALL(SYS_munmap, all, 6 * PAGE, 0, 0, 0, 0) == 0);
}

static void advice(uint64_t *seed) {
    char *all = (char *)map(0, 8 * PAGE, PROT_READ | PROT_WRITE, 0);
    int fd = open("/proc/self/exe", O_RDONLY);
    char *file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(file != MAP_FAILED && file[1] == 'E');
    close(fd);
    fill_random(all, 8 * PAGE, seed);
    file[1] = 'e';
    CHECK(CALL(SYS_madvise, all + PAGE, 2 * PAGE, MADV_DONTNEED, 0, 0, 0) == 0);
    CHECK(CALL(SYS_madvise, file, PAGE, MADV_DONTNEED, 0, 0, 0) == 0 && file[1] == 'E');
    for (unsigned long i = PAGE; i < 3 * PAGE; i++) {
        CHECK(all[i] == 0);
    }
    all[PAGE] = 7;
    CHECK(CALL(SYS_madvise, all + PAGE, PAGE, MADV_DONTNEED, 0, 0, 0) == 0 && all[PAGE] == 0);
    all[PAGE] = 9;
    CHECK(CALL(SYS_madvise, all, PAGE, MADV_WILLNEED, 0, 0, 0) == 0);
    CHECK(CALL(SYS_madvise, all + 4 * PAGE, PAGE, MADV_WIPEONFORK, 0, 0, 0) == 0);
    CHECK(CALL(SYS_madvise, all + 5 * PAGE, PAGE, MADV_DONTFORK, 0, 0, 0) == 0);
    all[6 * PAGE] = 3;
    CHECK(CALL(SYS_madvise, all + 6 * PAGE, PAGE, MADV_DONTFORK, 0, 0, 0) == 0);
    CHECK(CALL(SYS_madvise, all + 6 * PAGE, PAGE, MADV_DOFORK, 0, 0, 0) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(all[4 * PAGE] == 0 && all[PAGE] == 9 && all[6 * PAGE] == 3 && !readable(all + 5 * PAGE));
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(CALL(SYS_munmap, all + 3 * PAGE, PAGE, 0, 0, 0, 0) == 0);
    CHECK(CALL(SYS_madvise, all, 5 * PAGE, MADV_DONTNEED, 0, 0, 0) == -ENOMEM && all[0] == 0 && all[4 * PAGE] == 0);
    CHECK(CALL(SYS_madvise, all + 1, PAGE, MADV_DONTNEED, 0, 0, 0) == -EINVAL);
    CHECK(CALL(SYS_madvise, all, PAGE, 9999, 0, 0, 0) == -EINVAL);
    CHECK(CALL(SYS_munmap, all, 8 * PAGE, 0, 0, 0, 0) == 0 && munmap(file, PAGE) == 0);
}

/* A shared mapping of a file that becomes writable at some moment. */
static void shared(int round) {
    char name[32];
    snprintf(name, sizeof name, "shared-%d", round);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, "contents", 8) == 8);
    char *view = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(view != MAP_FAILED && memcmp(view, "contents", 8) == 0);
    CHECK(CALL(SYS_mprotect, view, PAGE, PROT_READ | PROT_WRITE, 0, 0, 0) == 0);
    view[0] = 'C';
    CHECK(CALL(SYS_madvise, view, PAGE, MADV_DONTNEED, 0, 0, 0) == 0 && view[0] == 'C');
    char got[8];
    CHECK(pread(fd, got, 8, 0) == 8 && memcmp(got, "Contents", 8) == 0);
    CHECK(CALL(SYS_munmap, view, PAGE, 0, 0, 0, 0) == 0);
    close(fd);
}

/* Changes memory, and computes until a signal ends the interval. */
static void computing(void) {
    volatile unsigned char *page = (unsigned char *)map(0, 3 * PAGE, PROT_READ | PROT_WRITE, 0);
    CHECK(CALL(SYS_mprotect, page + PAGE, PAGE, PROT_READ, 0, 0, 0) == 0);
    CHECK(CALL(SYS_munmap, page + 2 * PAGE, PAGE, 0, 0, 0, 0) == 0);
    unsigned long turns = 0;
    for (int before = alarms; alarms == before;) {
        turns++;
        page[turns % PAGE] ^= (unsigned char)turns;
    }
    printf("%lu\n", turns);
    CHECK(CALL(SYS_munmap, page, 2 * PAGE, 0, 0, 0, 0) == 0);
}

int main(void) {
    signal(SIGALRM, on_alarm);
    struct sigaction action = {.sa_handler = on_fault};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    uint64_t seed = fresh_seed();
    struct itimerval every = {{0, 10000}, {0, 10000}}, never = {{0, 0}, {0, 0}};
    for (int round = 0; round < 4; round++) {
        CHECK(setitimer(ITIMER_REAL, round & 1 ? &every : &never, NULL) == 0);
        breaks(round);
        mappings(&seed);
        rights(round);
        advice(&seed);
        shared(round);
    }
    struct itimerval once = {{0, 0}, {0, 20000}};
    CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
    computing();
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    printf("%d faults\n", (int)faults);
    return 0;
}

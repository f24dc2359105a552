// guest: special
/* Processes and threads that do at random what changes address spaces: map, unmap, move, protect and advise, fork,
 * clone, exec, signal and kill; and that let the kernel write to their memory. Each knows what must be in its own.
 *
 *     stress SEED STEPS
 *
 * Children may be killed by others at any moment; nothing else may go wrong.
 */
#include "guest.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/time.h>

enum { PAGE = 4096, AREAS = 10, PAGES = 24, THREADS = 3, DEPTH = 3, SHARED_PAGES = 8 };

/* Memory that one thread uses. The first word of a page is its stamp, or 0; the other words can have
 * any value. */
struct area {
    unsigned char *at;
    size_t pages;
    uint64_t stamp[PAGES];
    int in_child; /* what a fork makes of it: MADV_DOFORK, MADV_DONTFORK or MADV_WIPEONFORK */
    int is_file;
};

struct actor {
    uint64_t seed;
    long steps;
    int depth;
    struct area areas[AREAS];
};

static char self[4096];
static unsigned char *shared;
static volatile unsigned long signals;

static uint64_t pick(struct actor *a, uint64_t bound) {
    return next_random(&a->seed) % bound;
}

static void on_signal(int number) {
    volatile unsigned char frame[6000]; /* touches pages of the stack that nothing else does */
    for (size_t i = 0; i < sizeof frame; i += 512) {
        frame[i] = (unsigned char)number;
    }
    signals += frame[512] != 0;
}

static void stamp(struct area *r, size_t page, uint64_t value) {
    memcpy(r->at + page * PAGE, &value, sizeof value);
    r->stamp[page] = value;
}

static void check(const struct area *r) {
    for (size_t i = 0; i < r->pages; i++) {
        uint64_t value;
        memcpy(&value, r->at + i * PAGE, sizeof value);
        CHECK(value == r->stamp[i]);
    }
}

static void write_some(struct actor *a, struct area *r) {
    for (size_t n = 1 + pick(a, 4); n > 0; n--) {
        size_t page = pick(a, r->pages);
        stamp(r, page, next_random(&a->seed));
        fill_random(r->at + page * PAGE + 16 + pick(a, 3000), 1 + pick(a, 1000), &a->seed);
    }
}

static void map(struct actor *a, struct area *r) {
    static const int kinds[] = {0, 0, 0, MAP_POPULATE, MAP_NORESERVE};
    memset(r, 0, sizeof *r);
    r->pages = 1 + pick(a, PAGES);
    r->in_child = MADV_DOFORK;
    int flags = MAP_PRIVATE | kinds[pick(a, 5)], fd = -1;
    r->is_file = pick(a, 4) == 0;
    if (r->is_file) {
        char name[] = "stress-XXXXXX";
        fd = mkstemp(name);
        CHECK(fd >= 0 && unlink(name) == 0);
        for (size_t i = 0; i < r->pages; i++) {
            r->stamp[i] = next_random(&a->seed);
            CHECK(pwrite(fd, &r->stamp[i], 8, (off_t)(i * PAGE)) == 8);
        }
        CHECK(ftruncate(fd, (off_t)(r->pages * PAGE)) == 0);
    }
    r->at = mmap(NULL, r->pages * PAGE, PROT_READ | PROT_WRITE, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    CHECK(r->at != MAP_FAILED);
    if (fd >= 0) {
        close(fd);
    }
    if (pick(a, 3)) {
        write_some(a, r);
    }
}

static void unmap(struct actor *a, struct area *r) {
    (void)a;
    CHECK(munmap(r->at, r->pages * PAGE) == 0);
    r->at = NULL;
}

/* The first pages go, or are replaced in their place, or all is moved. */
static void reshape(struct actor *a, struct area *r) {
    size_t n = 1 + pick(a, r->pages);
    switch (pick(a, 4)) {
    case 0:
        if (n < r->pages) {
            CHECK(munmap(r->at, n * PAGE) == 0);
            r->at += n * PAGE;
            r->pages -= n;
            memmove(r->stamp, r->stamp + n, r->pages * sizeof *r->stamp);
        }
        break;
    case 1:
        if (r->in_child == MADV_DOFORK) {
            CHECK(mmap(r->at, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == r->at);
            memset(r->stamp, 0, n * sizeof *r->stamp);
            if (pick(a, 2)) {
                stamp(r, pick(a, n), next_random(&a->seed));
            }
        }
        break;
    default: { /* a place of its own, so that it must move */
        unsigned char *place = mmap(NULL, r->pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(place != MAP_FAILED);
        unsigned char *at = mremap(r->at, r->pages * PAGE, r->pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
        if (at != MAP_FAILED) {
            r->at = at;
        } else { /* it consists of several mappings by now (older kernels) */
            CHECK(errno == EFAULT);
            /* The place may be free, and another thread's by now: it is left. */
        }
    }
    }
}

static void protect(struct actor *a, struct area *r) {
    size_t from = pick(a, r->pages), n = 1 + pick(a, r->pages - from);
    unsigned char *at = r->at + from * PAGE;
    CHECK(mprotect(at, n * PAGE, pick(a, 2) ? PROT_NONE : PROT_READ) == 0);
    if (pick(a, 2)) {
        struct timespec moment = {0, (long)pick(a, 300000)};
        nanosleep(&moment, NULL);
    }
    CHECK(mprotect(at, n * PAGE, PROT_READ | PROT_WRITE) == 0);
}

static void advise(struct actor *a, struct area *r) {
    static const int harmless[] = {MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLD, MADV_WILLNEED};
    size_t from = pick(a, r->pages), n = 1 + pick(a, r->pages - from);
    unsigned char *at = r->at + from * PAGE;
    switch (pick(a, 6)) {
    case 0:
        if (!r->is_file) {
            CHECK(madvise(at, n * PAGE, MADV_DONTNEED) == 0);
            memset(r->stamp + from, 0, n * sizeof *r->stamp);
        }
        break;
    case 1:
        if (!r->is_file && madvise(at, n * PAGE, MADV_FREE) == 0) {
            for (size_t i = from; i < from + n; i++) {
                stamp(r, i, next_random(&a->seed));
            }
        }
        break;
    case 2:
        CHECK(madvise(r->at, r->pages * PAGE, MADV_DOFORK) == 0);
        if (!r->is_file) {
            CHECK(madvise(r->at, r->pages * PAGE, MADV_KEEPONFORK) == 0);
        }
        r->in_child = MADV_DOFORK;
        break;
    case 3:
        if (r->in_child == MADV_DOFORK) {
            int wish = r->is_file || pick(a, 2) ? MADV_DONTFORK : MADV_WIPEONFORK;
            CHECK(madvise(r->at, r->pages * PAGE, wish) == 0);
            r->in_child = wish;
        }
        break;
    default:
        madvise(at, n * PAGE, harmless[pick(a, 4)]); /* not every kernel knows all of them */
    }
}

/* The kernel writes to the memory. */
static void receive(struct actor *a, struct area *r) {
    size_t page = pick(a, r->pages);
    unsigned char *at = r->at + page * PAGE + 16 + pick(a, 100);
    int ends[2];
    switch (pick(a, 3)) {
    case 0:
        CHECK(syscall(SYS_getrandom, at, 48, 0) == 48);
        break;
    case 1:
        CHECK(pipe2(ends, O_CLOEXEC) == 0);
        CHECK(write(ends[1], self, 48) == 48);
        CHECK(read(ends[0], at, 48) == 48);
        close(ends[0]);
        close(ends[1]);
        break;
    default: {
        int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0 && read(fd, at, 48) == 48);
        close(fd);
    }
    }
}

static void run(struct actor *a);

/* The part of a parent's memory that a child has. */
static void inherit(struct actor *a) {
    for (int i = 0; i < AREAS; i++) {
        struct area *r = &a->areas[i];
        if (r->at && r->in_child == MADV_DONTFORK) {
            r->at = NULL;
        } else if (r->at && r->in_child == MADV_WIPEONFORK) {
            memset(r->stamp, 0, sizeof r->stamp);
        }
    }
}

static void reap(pid_t pid) {
    int status;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {
    }
    CHECK(got == pid);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
}

static void exec_self(struct actor *a) {
    struct itimerval none = {0}; /* its signal would come before there is a handler */
    CHECK(setitimer(ITIMER_REAL, &none, NULL) == 0 && setitimer(ITIMER_VIRTUAL, &none, NULL) == 0);
    char seed[24], steps[24], depth[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)next_random(&a->seed));
    snprintf(steps, sizeof steps, "%ld", a->steps);
    snprintf(depth, sizeof depth, "%d", a->depth);
    execl(self, "stress", seed, steps, depth, (char *)NULL);
    _exit(98);
}

/* A child that does the same work, and perhaps writes something at its end, which its parent waits for. */
static void have_child(struct actor *a) {
    int ends[2], how = (int)pick(a, 8);
    if (a->depth >= DEPTH) {
        return;
    }
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    pid_t pid = how == 0 ? vfork() : fork();
    CHECK(pid >= 0);
    if (pid == 0 && how == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(98);
    }
    if (pid == 0) {
        inherit(a);
        a->depth++;
        a->seed = a->seed * 31 + 7;
        a->steps = 1 + (long)pick(a, (uint64_t)a->steps / 2 + 2);
        if (how == 1) {
            exec_self(a);
        }
        run(a);
        CHECK(write(ends[1], self, 48) == 48 || errno == EPIPE);
        _exit(0);
    }
    close(ends[1]);
    if (how == 2) {
        kill(pid, SIGKILL);
    } else if (how == 3) {
        kill(pid, SIGUSR1);
    } else if (how < 6) {
        for (int i = 0; i < AREAS; i++) {
            if (a->areas[i].at) {
                unsigned char *at = a->areas[i].at + (a->areas[i].pages - 1) * PAGE + 0x55;
                while (read(ends[0], at, 48) < 0) {
                    CHECK(errno == EINTR);
                }
                break;
            }
        }
    } else {
        for (int i = 0; i < AREAS; i++) { /* both write */
            if (a->areas[i].at) {
                write_some(a, &a->areas[i]);
            }
        }
    }
    close(ends[0]);
    reap(pid);
}

static void *thread(void *arg) {
    struct actor *a = arg;
    unsigned char *stack = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    stack_t alt = {.ss_sp = stack, .ss_size = 16 * PAGE};
    CHECK(sigaltstack(&alt, NULL) == 0);
    run(a);
    alt.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&alt, NULL) == 0);
    CHECK(munmap(stack, 16 * PAGE) == 0);
    return NULL;
}

static void have_threads(struct actor *a) {
    pthread_t threads[THREADS];
    struct actor *others = mmap(NULL, sizeof *others * THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(others != MAP_FAILED);
    int n = 1 + (int)pick(a, THREADS);
    for (int i = 0; i < n; i++) {
        others[i].seed = next_random(&a->seed) | 1;
        others[i].steps = a->steps / 3;
        others[i].depth = a->depth + 1;
        CHECK(pthread_create(&threads[i], NULL, thread, &others[i]) == 0);
    }
    for (int i = 0; i < 20; i++) {
        struct timespec moment = {0, 20000};
        pthread_kill(threads[pick(a, (uint64_t)n)], SIGUSR1); /* it has not been joined */
        nanosleep(&moment, NULL);
    }
    for (int i = 0; i < n; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(munmap(others, sizeof *others * THREADS) == 0);
}

static void ask_for_signals(struct actor *a) {
    struct itimerval timer = {.it_value = {0, 1 + (long)pick(a, 2000)}};
    CHECK(setitimer(pick(a, 2) ? ITIMER_REAL : ITIMER_VIRTUAL, &timer, NULL) == 0);
    raise(SIGUSR1);
    poll(NULL, 0, (int)pick(a, 2));
}

static void step(struct actor *a) {
    struct area *r = &a->areas[pick(a, AREAS)];
    if (!r->at) {
        map(a, r);
        return;
    }
    check(r);
    switch (pick(a, 30)) {
    case 0 ... 5: write_some(a, r); break;
    case 6 ... 9: receive(a, r); break;
    case 10 ... 12: reshape(a, r); break;
    case 13 ... 14: protect(a, r); break;
    case 15 ... 19: advise(a, r); break;
    case 20 ... 21: unmap(a, r); break;
    case 22: ask_for_signals(a); break;
    case 23: sched_yield(); break;
    case 24: shared[pick(a, SHARED_PAGES * PAGE)]++; break;
    case 25 ... 26:
        if (a->depth < DEPTH && pick(a, 3) == 0) {
            have_child(a);
        }
        break;
    case 27:
        if (a->depth < DEPTH && pick(a, 5) == 0) {
            have_threads(a);
        }
        break;
    default:
        for (volatile int i = 0; i < 2000; i++) {
        }
    }
}

static void run(struct actor *a) {
    for (; a->steps > 0; a->steps--) {
        step(a);
    }
    uint64_t sum = 0;
    for (int i = 0; i < AREAS; i++) {
        struct area *r = &a->areas[i];
        if (r->at) {
            check(r);
            sum = sum * 31 + checksum(r->at, r->pages * PAGE);
            unmap(a, r);
        }
    }
    dprintf(1, "%d %016llx\n", a->depth, (unsigned long long)sum);
}

int main(int argc, char **argv) {
    static struct actor first;
    CHECK(argc >= 3);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(length > 0);
    first.seed = strtoull(argv[1], NULL, 10) | 1;
    first.steps = strtol(argv[2], NULL, 10);
    first.depth = argc > 3 ? atoi(argv[3]) : 0;
    shared = mmap(NULL, SHARED_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGVTALRM, &action, NULL) == 0);
    action.sa_flags = 0;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3) {
        dprintf(1, "%d\n", getpid());
    }
    run(&first);
    return 0;
}

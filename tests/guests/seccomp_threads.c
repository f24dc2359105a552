/* The tasks that a filter applies to: the thread that installs it, the thread's children, and the
 * program that it executes; with SECCOMP_FILTER_FLAG_TSYNC, all threads of the process. */
#include "filters.h"
#include <pthread.h>

static struct outside before;

static int is_refused(void) {
    /* At one site, so that the library could make the later calls. */
    int refused = 0;
    for (int i = 0; i < 4; i++) {
        refused += syscall(SYS_getppid) == -1 && errno == ENOTTY;
    }
    CHECK(refused == 0 || refused == 4);
    return refused == 4;
}

static struct filter refusing(void) {
    struct filter f = {.length = 0};
    load(&f, NUMBER);
    answer_if(&f, SYS_getppid, SECCOMP_RET_ERRNO | ENOTTY);
    answer(&f, SECCOMP_RET_ALLOW);
    return f;
}

static pthread_barrier_t barrier;
static volatile int is_refused_there[2];
static volatile pid_t other;

static void *wait_and_look(void *argument) {
    struct filter own = {.length = 0};
    answer(&own, SECCOMP_RET_ALLOW);
    if (argument != NULL) {
        CHECK(install_with(&own, 0) == 0);
    }
    other = (pid_t)syscall(SYS_gettid);
    is_refused_there[0] = is_refused();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    is_refused_there[1] = is_refused();
    return NULL;
}

/* One thread installs the filter; another one checks before and after. */
static void beside(unsigned flags, void *diverges, long result, int error, int refused) {
    struct filter f = refusing();
    pthread_t thread;
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, wait_and_look, diverges) == 0);
    pthread_barrier_wait(&barrier);
    long got = install_with(&f, flags);
    if (result == -2) {
        result = other;
    }
    CHECK(got == result && (got != -1 || errno == error));
    CHECK(is_refused() == (got == 0));
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(is_refused_there[0] == 0 && is_refused_there[1] == refused);
}

static void alone(void) { beside(0, NULL, 0, 0, 0); }
static void together(void) { beside(SECCOMP_FILTER_FLAG_TSYNC, NULL, 0, 0, 1); }
static void diverged(void) { beside(SECCOMP_FILTER_FLAG_TSYNC, (void *)1, -2, 0, 0); }
static void diverged_esrch(void) {
    beside(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH, (void *)1, -1, ESRCH, 0);
}

/* A filter of all threads is followed by another. */
static void twice(void) {
    struct filter f = {.length = 0};
    answer(&f, SECCOMP_RET_ALLOW);
    CHECK(install_with(&f, 0) == 0);
    together();
}

static void *thread_looks(void *argument) {
    (void)argument;
    return (void *)(intptr_t)is_refused();
}

static void inherited(char *path) {
    struct filter f = refusing();
    CHECK(!is_refused() && install_with(&f, 0) == 0 && is_refused());
    pthread_t thread;
    void *refused = NULL;
    CHECK(pthread_create(&thread, NULL, thread_looks, NULL) == 0 && pthread_join(thread, &refused) == 0 && refused != NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(is_refused());
        install_for(SYS_getpgrp, SECCOMP_RET_ERRNO | EDOM);
        CHECK(syscall(SYS_getpgrp) == -1 && errno == EDOM);
        char words[32];
        snprintf(words, sizeof words, "%ld", before.filters);
        execl(path, path, words, NULL);
        _exit(99);
    }
    expect_exit(child, 8);
    CHECK(syscall(SYS_getpgrp) > 0);
}

int main(int count, char **words) {
    if (count > 1) {
        before = (struct outside){atol(words[1]), 0};
        expect_status(before, 2, 1);
        CHECK(is_refused() && syscall(SYS_getpgrp) == -1 && errno == EDOM);
        return 8;
    }
    before = outside();
    promise();
    void (*const all[])(void) = {alone, together, diverged, diverged_esrch, twice};
    each_in_a_child(all, sizeof all / sizeof *all);
    inherited("/proc/self/exe");
    expect_status(before, 1, 1);
    printf("%d\n", getpid());
    return 0;
}

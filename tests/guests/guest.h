/* Functions that all guests share: checks that report where they failed, and common operations.
 *
 * A guest is a small program about one thing. It checks its own invariants (exit status 99 and a line on
 * standard error if one fails) and prints values that differ from run to run, so that a replay must reproduce
 * them. Lines at the top of a guest of the form
 *
 *     // guest: cflags=-static exit=7 signal=11 args=a,b
 *
 * tell the harness how to build it and how it ends (tests/src/guest.rs).
 */
#ifndef GUEST_H
#define GUEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Ends the guest with status 99 unless `condition` holds. Safe after fork, with threads and in handlers. */
#define CHECK(condition)                                                                                      \
    do {                                                                                                      \
        if (!(condition)) {                                                                                   \
            int check_errno = errno;                                                                          \
            dprintf(2, "CHECK failed: %s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, check_errno);  \
            _exit(99);                                                                                        \
        }                                                                                                     \
    } while (0)

/* True if the guest runs under the recorder (the harness sets the variable with `rr record -v`). */
static inline int recorded(void) {
    return getenv("GUEST_RECORDED") != NULL;
}

/* FNV-1a, to print a memory area's content in one number. */
static inline uint64_t checksum(const void *memory, size_t length) {
    const unsigned char *bytes = memory;
    uint64_t hash = 1469598103934665603ull;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ bytes[i]) * 1099511628211ull;
    }
    return hash;
}

/* A seed that differs from run to run. */
static inline uint64_t fresh_seed(void) {
    uint64_t seed = 0;
    CHECK(syscall(SYS_getrandom, &seed, sizeof seed, 0) == (long)sizeof seed);
    return seed | 1;
}

/* xorshift64*, so that guests need no C library state. */
static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ull;
}

static inline void fill_random(void *memory, size_t length, uint64_t *state) {
    unsigned char *bytes = memory;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t value = next_random(state);
        memcpy(bytes + i, &value, 8);
    }
    for (; i < length; i++) {
        bytes[i] = (unsigned char)next_random(state);
    }
}

/* Waits for `pid` and checks that it ended with `status`. */
static inline void expect_exit(pid_t pid, int status) {
    int got = 0;
    CHECK(waitpid(pid, &got, 0) == pid);
    CHECK(WIFEXITED(got));
    CHECK(WEXITSTATUS(got) == status);
}

/* Comes back when a task waits in a call. */
static inline void wait_until_it_sleeps(pid_t pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (;;) {
        int fd = open(path, O_RDONLY);
        CHECK(fd >= 0);
        ssize_t n = read(fd, text, sizeof text - 1);
        CHECK(n > 0 && close(fd) == 0);
        text[n] = 0;
        if (strstr(text, ") S ") != NULL) {
            return;
        }
        struct timespec pause = {0, 300000};
        nanosleep(&pause, NULL);
    }
}

/* Runs each function in a child of its own, so that its changes of the process end with it. */
static inline void each_in_a_child(void (*const all[])(void), size_t count) {
    for (size_t i = 0; i < count; i++) {
        fflush(stdout);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            all[i]();
            fflush(stdout);
            _exit(3);
        }
        expect_exit(child, 3);
    }
}

/* Waits for `pid` and checks that it died of `signal`. */
static inline void expect_death(pid_t pid, int signal) {
    int got = 0;
    CHECK(waitpid(pid, &got, 0) == pid);
    CHECK(WIFSIGNALED(got));
    CHECK(WTERMSIG(got) == signal);
}

static inline void sleep_ms(long ms) {
    struct timespec wait = {ms / 1000, (ms % 1000) * 1000000};
    while (nanosleep(&wait, &wait) != 0) {
        CHECK(errno == EINTR);
    }
}

/* Reads or writes exactly `length` bytes. */
static inline void read_all(int fd, void *memory, size_t length) {
    char *at = memory;
    while (length > 0) {
        ssize_t n = read(fd, at, length);
        CHECK(n > 0);
        at += n;
        length -= (size_t)n;
    }
}

static inline void write_all(int fd, const void *memory, size_t length) {
    const char *at = memory;
    while (length > 0) {
        ssize_t n = write(fd, at, length);
        CHECK(n > 0);
        at += n;
        length -= (size_t)n;
    }
}

/* A new directory under the working directory (the harness runs each guest in an empty one). */
static inline char *scratch_dir(void) {
    static char path[64];
    strcpy(path, "guest-XXXXXX");
    CHECK(mkdtemp(path) != NULL);
    return path;
}

#endif

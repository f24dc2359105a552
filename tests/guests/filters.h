/* Builds filters of system calls, one instruction at a time. */
#ifndef FILTERS_H
#define FILTERS_H

#include "guest.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH 16
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV 32
#endif

#define NUMBER offsetof(struct seccomp_data, nr)
#define ARCH offsetof(struct seccomp_data, arch)
#define PLACE offsetof(struct seccomp_data, instruction_pointer)
#define ARGUMENT(n) offsetof(struct seccomp_data, args[n])

struct filter {
    struct sock_filter code[64];
    unsigned short length;
};

static inline void add(struct filter *f, unsigned code, unsigned k, unsigned char yes, unsigned char no) {
    CHECK(f->length < sizeof f->code / sizeof *f->code);
    f->code[f->length++] = (struct sock_filter){(unsigned short)code, yes, no, k};
}
static inline void load(struct filter *f, size_t offset) { add(f, BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0); }
static inline void answer(struct filter *f, unsigned action) { add(f, BPF_RET | BPF_K, action, 0, 0); }
/* The number must be in the accumulator. */
static inline void answer_if(struct filter *f, long number, unsigned action) {
    add(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1);
    answer(f, action);
}

static inline long install_with(const struct filter *f, unsigned flags) {
    struct sock_fprog program = {f->length, (struct sock_filter *)f->code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
/* A filter that does `action` at calls of a number, and allows all others. */
static inline void install_for(long number, unsigned action) {
    struct filter f = {.length = 0};
    load(&f, NUMBER);
    answer_if(&f, number, action);
    answer(&f, SECCOMP_RET_ALLOW);
    CHECK(install_with(&f, 0) == 0);
}
static inline void promise(void) { CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0); }

/* Returns the value of a key in /proc. */
static inline long status_of(const char *path, const char *key) {
    char text[8192];
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(n > 0);
    text[n] = 0;
    CHECK(close(fd) == 0);
    char line[64];
    snprintf(line, sizeof line, "\n%s:", key);
    char *at = strstr(text, line);
    return at == NULL ? -1 : strtol(at + strlen(line), NULL, 10);
}
/* State at the start: the guest may run in a container, under filters from outside. */
struct outside {
    long filters, no_new_privs;
};
static inline struct outside outside(void) {
    return (struct outside){status_of("/proc/self/status", "Seccomp_filters"), status_of("/proc/self/status", "NoNewPrivs")};
}
static inline void expect_status(struct outside before, long filters, long no_new_privs) {
    filters += before.filters;
    no_new_privs |= before.no_new_privs;
    CHECK(status_of("/proc/self/status", "Seccomp") == (filters > 0 ? 2 : 0));
    CHECK(status_of("/proc/self/status", "Seccomp_filters") == filters);
    CHECK(status_of("/proc/thread-self/status", "Seccomp_filters") == filters);
    CHECK(status_of("/proc/self/status", "NoNewPrivs") == no_new_privs);
    CHECK(status_of("/proc/self/status", "TracerPid") == 0);
    CHECK(prctl(PR_GET_SECCOMP) == (filters > 0 ? 2 : 0));
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == no_new_privs);
}

#endif

/* Calls about memory that are less well known: mseal, process_madvise, keys, memfd_secret, /dev/zero. Where the
 * machine's kernel refuses one, the recorded program is told the same. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

static char *map(size_t pages) {
    char *at = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void seal(void) {
    char *at = map(4);
    at[0] = at[4096] = at[3 * 4096] = 'a';
    if (syscall(SYS_mseal, at + 4096, 4096, 0) != 0) {
        CHECK(errno == ENOSYS);
        return;
    }
    CHECK(syscall(SYS_mseal, at, 4096, 1) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_mseal, at + 1, 4096, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_mseal, (void *)(1ull << 30), 4096, 0) == -1 && errno == ENOMEM);
    /* A second time, and twice: so that the library could make the calls. */
    for (int i = 0; i < 3; i++) {
        CHECK(munmap(at + 4096, 4096) == -1 && errno == EPERM);
        CHECK(munmap(at, 4 * 4096) == -1 && errno == EPERM);
        CHECK(mprotect(at + 4096, 4096, PROT_READ) == -1 && errno == EPERM);
        CHECK(mremap(at + 4096, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EPERM);
        CHECK(mmap(at, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED &&
              errno == EPERM);
    }
    /* Half of it is done. */
    int half = mprotect(at, 4 * 4096, PROT_READ);
    CHECK(half == -1 && errno == EPERM);
    at[4096] += 1; /* may be written still */
    CHECK(at[0] == 'a' && at[4096] == 'b' && at[3 * 4096] == 'a');
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(munmap(at + 4096, 4096) == -1 && errno == EPERM && at[4096] == 'b');
        _exit(7);
    }
    expect_exit(child, 7);
    /* Even what cannot be written can be thrown away, unless it is sealed. */
    char *constant = map(2);
    constant[0] = constant[4096] = 'c';
    CHECK(mprotect(constant, 8192, PROT_READ) == 0);
    CHECK(syscall(SYS_mseal, constant + 4096, 4096, 0) == 0);
    CHECK(madvise(constant, 8192, MADV_DONTNEED) == -1 && errno == EPERM);
    CHECK(constant[4096] == 'c');
    printf("sealed, %d before the seal\n", constant[0]);
}

static long advise(int pidfd, struct iovec *ranges, size_t count, int advice) {
    return syscall(SYS_process_madvise, pidfd, ranges, count, advice, 0);
}

static void advices(void) {
    char *at = map(8);
    memset(at, 'x', 8 * 4096);
    int own = (int)syscall(SYS_pidfd_open, getpid(), 0);
    CHECK(own >= 0);
    struct iovec ranges[] = {{at, 4096}, {at + 2 * 4096, 8192}, {at + 7 * 4096, 4096}};
    if (advise(own, ranges, 3, 20 /* MADV_COLD */) != 4 * 4096) {
        CHECK(errno == ENOSYS || errno == EINVAL);
        return;
    }
    CHECK(advise(-1, ranges, 3, 20) == -1 && errno == EBADF);
    CHECK(advise(own, NULL, 3, 20) == -1 && errno == EFAULT);
    CHECK(advise(own, ranges, 3, 12345) == -1 && errno == EINVAL);
    long thrown = advise(own, ranges, 3, MADV_DONTNEED); /* of itself since Linux 6.13 */
    if (thrown == 4 * 4096) {
        for (int i = 0; i < 8; i++) {
            CHECK(at[i * 4096] == (i == 0 || i == 2 || i == 3 || i == 7 ? 0 : 'x'));
        }
        memset(at, 'y', 8 * 4096);
        CHECK(advise(own, ranges, 2, MADV_FREE) == 3 * 4096);
        /* The second range is not there: what comes after it is left alone. */
        memset(at, 'z', 8 * 4096);
        ranges[1].iov_base = (void *)(1ull << 30);
        CHECK(advise(own, ranges, 3, MADV_DONTNEED) == 4096);
        CHECK(at[0] == 0 && at[7 * 4096] == 'z');
        ranges[0].iov_base = at + 4096;
        CHECK(advise(own, ranges, 1, MADV_WIPEONFORK) == 4096);
    } else {
        CHECK(errno == EINVAL);
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(at[4096] == (thrown < 0 ? 'x' : 0));
        _exit(8);
    }
    int other = (int)syscall(SYS_pidfd_open, child, 0);
    CHECK(other >= 0);
    long refused = advise(other, ranges + 2, 1, MADV_DONTNEED);
    CHECK(refused == -1 && (errno == EINVAL || errno == ESRCH));
    expect_exit(child, 8);
    printf("thrown away: %ld\n", thrown);
}

static void keys(void) {
    char *at = map(1);
    long key = syscall(SYS_pkey_alloc, 0, 0);
    int error = key < 0 ? errno : 0;
    CHECK(syscall(SYS_pkey_alloc, 1, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_pkey_free, 15) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_pkey_mprotect, at, 4096, PROT_READ, -1) == 0);
    CHECK(syscall(SYS_pkey_mprotect, at, 4096, PROT_READ, 15) == -1 && errno == EINVAL);
    printf("key %ld, errno %d\n", key, error);
}

static void secret(void) {
    errno = 0;
    CHECK(syscall(SYS_memfd_secret, 1 << 30) == -1);
    int missing = errno == ENOSYS;
    CHECK(missing || errno == EINVAL);
    int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
    if (fd < 0) {
        CHECK(missing && errno == ENOSYS);
        return;
    }
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(ftruncate(fd, 8192) == 0);
    char *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    uint64_t seed = fresh_seed();
    fill_random(at, 8192, &seed);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        at[0] = 's';
        _exit(9);
    }
    expect_exit(child, 9);
    CHECK(at[0] == 's');
    printf("secret %llx\n", (unsigned long long)checksum(at, 8192));
}

static void zero(void) {
    int fd = open("/dev/zero", O_RDWR);
    CHECK(fd >= 0);
    char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 4096);
    CHECK(shared != MAP_FAILED && own != MAP_FAILED);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        shared[4096] = own[0] = 'q';
        _exit(10);
    }
    expect_exit(child, 10);
    CHECK(shared[4096] == 'q' && own[0] == 0);
    int constant = open("/dev/zero", O_RDONLY);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, constant, 0) == MAP_FAILED && errno == EACCES);
    own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, constant, 0);
    CHECK(own != MAP_FAILED);
    own[7] = 1;
}

int main(void) {
    seal();
    advices();
    keys();
    secret();
    zero();
    puts("done");
    return 0;
}

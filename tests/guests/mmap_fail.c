/* Memory calls that fail leave everything as it was. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    void *volatile bad = (void *)8;
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, -1, 0) == MAP_FAILED && errno == EBADF);
    CHECK(mmap(NULL, 1ul << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK(mmap((void *)8, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
    int fd = open("/proc/self/exe", O_RDONLY);
    CHECK(fd >= 0);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 100) == MAP_FAILED && errno == EINVAL);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    page[0] = 'x';
    CHECK(mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
    CHECK(errno == EEXIST && page[0] == 'x');
    CHECK(munmap(page + 1, 4096) == -1 && errno == EINVAL);
    CHECK(mprotect((void *)4096, 4096, PROT_READ) == -1 && errno == ENOMEM);
    CHECK(mremap((void *)4096, 4096, 8192, 0) == MAP_FAILED && errno == EFAULT);
    CHECK(madvise(page, 4096, 12345) == -1 && errno == EINVAL);
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(read(ends[0], NULL, 0) == 0);
    write_all(ends[1], "abc", 3);
    CHECK(read(ends[0], bad, 3) == -1 && errno == EFAULT);
    CHECK(write(ends[1], bad, 3) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8) == -1 && errno == EFAULT);
    CHECK(mprotect(page, 4096, PROT_READ) == 0);
    CHECK(syscall(SYS_uname, page) == -1 && errno == EFAULT);
    char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(edge != MAP_FAILED && mprotect(edge + 4096, 4096, PROT_NONE) == 0);
    int zero = open("/dev/zero", O_RDONLY);
    memset(edge, 7, 4096);
    ssize_t n = read(zero, edge + 4000, 200); /* reaches into the forbidden page: partial or EFAULT */
    CHECK(n == 96 || (n == -1 && errno == EFAULT));
    printf("partial read: %ld, %016llx\n", (long)n, (unsigned long long)checksum(edge, 4096));
    return 0;
}

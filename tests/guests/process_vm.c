/* process_vm_readv and process_vm_writev between recorded processes: across pages, vectors of several, faults. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/uio.h>

int main(void) {
    char *area = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED && shared != MAP_FAILED);
    uint64_t seed = fresh_seed();
    fill_random(area, 4 * 4096, &seed);
    int go[2], done[2];
    CHECK(pipe(go) == 0 && pipe(done) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    char byte;
    if (child == 0) {
        memset(area, 'c', 4 * 4096);
        CHECK(munmap(area + 3 * 4096, 4096) == 0);
        write_all(done[1], "r", 1);
        read_all(go[0], &byte, 1);
        printf("%016llx\n", (unsigned long long)checksum(area, 3 * 4096));
        fflush(stdout);
        CHECK(area[4090] != 'c' || area[4091] != 'c' || area[4100] != 'c');
        CHECK(area[4089] == 'c' && area[8200] == 'c' && shared[10] == 's');
        _exit(8);
    }
    read_all(done[0], &byte, 1);
    char got[8192];
    struct iovec local[2] = {{got, 100}, {got + 1000, 5000}};
    struct iovec remote[3] = {{area, 4000}, {area + 5000, 1000}, {area + 4096, 100}};
    CHECK(process_vm_readv(child, local, 2, remote, 3, 0) == 5100);
    CHECK(got[0] == 'c' && got[99] == 'c' && got[1000] == 'c' && got[5999] == 'c');
    struct iovec from = {area, 3000};
    struct iovec to[3] = {{area + 4090, 100}, {area + 8300, 200}, {(void *)(shared + 10), 1}};
    area[300] = 's';
    from.iov_len = 301;
    ssize_t n = process_vm_writev(child, &from, 1, to, 3, 0);
    CHECK(n == 301);
    struct iovec bad = {area + 3 * 4096 - 50, 100}; /* half of it is not mapped there */
    n = process_vm_writev(child, &from, 1, &bad, 1, 0);
    CHECK(n == 50 || (n == -1 && errno == EFAULT));
    write_all(go[1], "g", 1);
    expect_exit(child, 8);
    CHECK(process_vm_readv(child, local, 1, remote, 1, 0) == -1 && errno == ESRCH);
    printf("%zd\n", n);
    return 0;
}

/* Mappings far larger than memory and disk, with a few used pages: nothing may copy or store them as a
 * whole. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    uint64_t seed = fresh_seed(), sum = 0;
    size_t size = 64ul << 30;
    unsigned char *big =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(big != MAP_FAILED);
    void *reserved = mmap(NULL, 1ul << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(reserved != MAP_FAILED);
    size_t places[64];
    for (int i = 0; i < 64; i++) {
        places[i] = next_random(&seed) % size;
        big[places[i]] = (unsigned char)(i + 1);
        getppid();
    }
    for (int i = 0; i < 64; i++) {
        CHECK(big[places[i]] != 0);
        sum = sum * 31 + big[places[i]] + places[i];
    }
    CHECK(mprotect(reserved, 1 << 20, PROT_READ | PROT_WRITE) == 0);
    memset(reserved, 1, 1 << 20);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(big[places[3]] != 0 && big[(places[3] + (1 << 30)) % size] != 255);
        getppid();
        _exit(0);
    }
    expect_exit(child, 0);
    int fd = open("sparse", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 1l << 34) == 0); /* 16 GiB, no block of it written */
    unsigned char *file = mmap(NULL, 1ul << 34, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(file != MAP_FAILED && unlink("sparse") == 0);
    file[5ul << 30] = 5;
    getppid();
    CHECK(file[5ul << 30] == 5 && file[7ul << 30] == 0);
    printf("%p %p %016llx\n", (void *)big, (void *)file, (unsigned long long)sum);
    return 0;
}

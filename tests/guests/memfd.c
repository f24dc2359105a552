/* A memfd mapped shared in two processes, grown and sealed. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    int fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, 8192) == 0);
    volatile uint64_t *map = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    map[0] = fresh_seed();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        uint64_t seen;
        CHECK(pread(fd, &seen, sizeof seen, 0) == sizeof seen && seen == map[0]);
        CHECK(ftruncate(fd, 16384) == 0);
        map[1024] = seen + 1; /* in what has just been added */
        seen += 2;
        CHECK(pwrite(fd, &seen, sizeof seen, 8) == sizeof seen);
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(map[1024] == map[0] + 1 && map[1] == map[0] + 2);
    struct stat info;
    CHECK(fstat(fd, &info) == 0 && info.st_size == 16384);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    CHECK(ftruncate(fd, 0) == -1 && errno == EPERM);
    printf("%016llx\n", (unsigned long long)map[1]);
    return 0;
}

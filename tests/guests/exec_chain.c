/* Ten programs in one process, each with other memory, descriptors and arguments than the one before. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/personality.h>

int main(int argc, char **argv) {
    int left = argc > 1 ? atoi(argv[1]) : 10;
    printf("%d left: pid %d main %p stack %p heap %p\n", left, getpid(), (void *)(uintptr_t)main, (void *)&left,
           (void *)sbrk(0));
    fflush(stdout);
    if (argc > 2) {
        int inherited = atoi(argv[2]), closed = atoi(argv[3]);
        struct stat info;
        CHECK(fstat(inherited, &info) == 0);
        CHECK(fstat(closed, &info) == -1 && errno == EBADF);
        close(inherited);
    }
    if (left == 0) {
        return 0;
    }
    /* Memory that must be gone afterwards, at an address chosen by us and ones chosen by the kernel. */
    void *fixed = mmap((void *)(0x10000000ul + 0x100000ul * (unsigned)left), 1 << 20, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(fixed != MAP_FAILED);
    memset(fixed, left, 1 << 20);
    char *heap = malloc((size_t)left * 50000);
    CHECK(heap != NULL);
    memset(heap, left, (size_t)left * 50000);
    if (left == 5) {
        CHECK(personality(ADDR_NO_RANDOMIZE) >= 0);
    } else if (left == 3) {
        CHECK(personality(0) >= 0);
    }
    int inherited = open("/dev/null", O_RDONLY), closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(inherited >= 0 && closed >= 0);
    char count[16], kept[16], gone[16], value[32];
    snprintf(count, sizeof count, "%d", left - 1);
    snprintf(kept, sizeof kept, "%d", inherited);
    snprintf(gone, sizeof gone, "%d", closed);
    snprintf(value, sizeof value, "LEFT_%d=%ld", left, (long)time(NULL));
    CHECK(putenv(value) == 0);
    execl("/proc/self/exe", argv[0], count, kept, gone, NULL);
    CHECK(!"exec failed");
}

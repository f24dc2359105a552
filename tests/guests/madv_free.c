/* MADV_FREE lets the kernel drop pages at any time: the recorder must decide when, and the replay must
 * do the same. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    uint64_t seed = fresh_seed();
    size_t size = 64 * 4096;
    unsigned char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    fill_random(area, size, &seed);
    uint64_t sum = checksum(area, size);
    CHECK(madvise(area, size / 2, MADV_FREE) == 0 || errno == EINVAL);
    for (int i = 0; i < 20; i++) {
        getppid();
    }
    int kept = 0, dropped = 0;
    for (size_t i = 0; i < size / 2; i += 4096) {
        int zero = 1;
        for (size_t k = 0; k < 4096; k++) {
            zero &= area[i + k] == 0;
        }
        dropped += zero;
        kept += !zero;
    }
    CHECK(dropped > 0 || checksum(area, size) == sum);
    memset(area, 1, size / 2);
    printf("%d kept, %d dropped, %016llx\n", kept, dropped, (unsigned long long)checksum(area, size));
    return 0;
}

/* Pages that are read but never written, pages written with zeros, and pages that are written and
 * zeroed again. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    size_t size = 256 * 4096;
    unsigned char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    unsigned sum = 0;
    for (size_t i = 0; i < size / 4; i += 4096) {
        sum += area[i];
    }
    getppid();
    memset(area + size / 4, 0, size / 4);
    memset(area + size / 2, 1, size / 4);
    getppid();
    memset(area + size / 2, 0, size / 4);
    getppid();
    for (size_t i = 0; i < size; i++) {
        sum += area[i];
    }
    CHECK(sum == 0);
    printf("%p\n", (void *)area);
    return 0;
}

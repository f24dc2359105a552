/* More shared memory objects than a process may have open files, but only a few at a time; with an
 * argument, this number at a time. */
#include "guest.h"
#include <sys/mman.h>

static unsigned *map(void) {
    unsigned *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    return page;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        for (int i = 0; i < atoi(argv[1]); i++) {
            *map() = (unsigned)i;
        }
        return 0;
    }
    unsigned *kept = map(), sum = 0;
    for (unsigned i = 0; i < 300; i++) {
        unsigned *page = map();
        CHECK(*page == 0);
        *page = i;
        if (i % 100 == 0) {
            pid_t pid = fork();
            CHECK(pid >= 0);
            if (pid == 0) {
                *kept += *page;
                CHECK(munmap(page, 4096) == 0);
                _exit(0);
            }
            expect_exit(pid, 0);
        }
        sum += *page;
        CHECK(munmap(page, 4096) == 0);
    }
    printf("%u %u\n", *kept, sum);
    return 0;
}

/* A write barrier, as garbage collectors use: the handler for a write fault allows the write and continues. */
#include "guest.h"
#include <sys/mman.h>

enum { PAGES = 32 };
static unsigned char *area;
static volatile sig_atomic_t faults;
static volatile uint64_t order;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    unsigned char *page = (unsigned char *)((uintptr_t)info->si_addr & ~4095ul);
    CHECK(info->si_code == SEGV_ACCERR);
    CHECK(page >= area && page < area + PAGES * 4096);
    CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
    order = order * 37 + (uint64_t)(page - area);
    faults++;
}

int main(void) {
    uint64_t seed = fresh_seed();
    area = mmap(NULL, PAGES * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    int expected = 0;
    for (int round = 0; round < 3; round++) {
        unsigned char seen[PAGES] = {0};
        for (int i = 0; i < 40; i++) {
            size_t at = next_random(&seed) % (PAGES * 4096);
            expected += !seen[at / 4096];
            seen[at / 4096] = 1;
            area[at] = (unsigned char)(i + 1);
            CHECK(area[at] == i + 1 && faults == expected);
        }
        CHECK(mprotect(area, PAGES * 4096, PROT_READ) == 0);
    }
    printf("%d faults, order %016llx, %016llx\n", (int)faults, (unsigned long long)order,
           (unsigned long long)checksum(area, PAGES * 4096));
    return 0;
}

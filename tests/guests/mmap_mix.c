/* A random mixture of mmap, munmap, mprotect, mremap and writes, with a model of what must be there. */
#include "guest.h"
#include <sys/mman.h>

enum { AREAS = 16, PAGE = 4096 };

static struct area {
    unsigned char *at;
    size_t pages;
    uint64_t seed; /* what each page begins with: seed + its index */
} areas[AREAS];

static void stamp(struct area *a, size_t from) {
    for (size_t i = from; i < a->pages; i++) {
        uint64_t value = a->seed + i;
        memcpy(a->at + i * PAGE, &value, sizeof value);
    }
}

static void check(const struct area *a) {
    for (size_t i = 0; i < a->pages; i++) {
        uint64_t value;
        memcpy(&value, a->at + i * PAGE, sizeof value);
        CHECK(value == a->seed + i);
    }
}

int main(void) {
    uint64_t seed = fresh_seed(), sum = 0;
    for (int step = 0; step < 300; step++) {
        struct area *a = &areas[next_random(&seed) % AREAS];
        size_t pages = 1 + next_random(&seed) % 40;
        if (!a->at) {
            a->at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(a->at != MAP_FAILED);
            a->pages = pages;
            a->seed = next_random(&seed);
            stamp(a, 0);
            continue;
        }
        check(a);
        switch (next_random(&seed) % 6) {
        case 0:
            CHECK(munmap(a->at, a->pages * PAGE) == 0);
            a->at = NULL;
            break;
        case 1: { /* grow or shrink, perhaps moving */
            size_t old = a->pages;
            unsigned char *moved = mremap(a->at, old * PAGE, pages * PAGE, MREMAP_MAYMOVE);
            if (moved == MAP_FAILED) { /* the area consists of several mappings by now */
                CHECK(errno == EFAULT);
                break;
            }
            a->at = moved;
            a->pages = pages;
            if (pages > old) {
                for (size_t i = old * PAGE; i < pages * PAGE; i += PAGE) {
                    CHECK(a->at[i] == 0);
                }
                stamp(a, old);
            }
            break;
        }
        case 2: /* forbid and allow again: contents stay */
            CHECK(mprotect(a->at, a->pages * PAGE, PROT_NONE) == 0);
            getppid();
            CHECK(mprotect(a->at, a->pages * PAGE, PROT_READ | PROT_WRITE) == 0);
            break;
        case 3: /* a part becomes read-only and is split off */
            CHECK(mprotect(a->at, (a->pages / 2) * PAGE, PROT_READ) == 0);
            check(a);
            CHECK(mprotect(a->at, a->pages * PAGE, PROT_READ | PROT_WRITE) == 0);
            break;
        case 4: /* the last page is replaced by a new mapping in its place */
            if (a->pages > 1) {
                unsigned char *last = a->at + (a->pages - 1) * PAGE;
                CHECK(mmap(last, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
                      last);
                CHECK(last[0] == 0);
                stamp(a, a->pages - 1);
            }
            break;
        default: /* the first half goes away */
            if (a->pages > 1) {
                size_t half = a->pages / 2;
                CHECK(munmap(a->at, half * PAGE) == 0);
                a->at += half * PAGE;
                a->pages -= half;
                a->seed += half;
            }
            break;
        }
        sum = sum * 31 + (uintptr_t)a->at + a->pages;
    }
    for (int i = 0; i < AREAS; i++) {
        if (areas[i].at) {
            check(&areas[i]);
        }
    }
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}

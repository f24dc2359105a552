// guest: heavy
/* Two independent pairs of madvise flags decide what a child gets of a page, and each flag is taken
 * back on its own: all orders of them, page by page. Also advice that discards contents: MADV_FREE, and
 * MADV_REMOVE of shared memory. */
#include "guest.h"
#include <sys/mman.h>

#define PAGE 4096
#define PAGES 64

static const int advices[] = {MADV_WIPEONFORK, MADV_DOFORK, MADV_KEEPONFORK, MADV_DONTFORK};

/* Contents of each page in a child: no page (0), zeros (1), the page's contents (2). */
static void look(unsigned char *area, unsigned char *seen) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        unsigned char there[PAGES], vector;
        for (int i = 0; i < PAGES; i++) {
            int gone = mincore(area + i * PAGE, PAGE, &vector) != 0;
            there[i] = gone ? 0 : area[i * PAGE] ? 2 : 1;
        }
        write_all(ends[1], there, sizeof there);
        _exit(0);
    }
    read_all(ends[0], seen, PAGES);
    expect_exit(child, 0);
    close(ends[0]);
    close(ends[1]);
}

static void pairs(uint64_t *state) {
    unsigned char *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    int omitted[PAGES] = {0}, wiped[PAGES] = {0};
    for (int round = 0; round < 4; round++) {
        memset(area, 0xff, PAGES * PAGE);
        for (int i = 0; i < PAGES; i++) {
            /* The advice is the same in every run, so that the checkpoints come between the same
             * advices. */
            int advice = advices[(i * 7 + round * 3 + i / 4) % 4];
            CHECK(madvise(area + i * PAGE, PAGE, advice) == 0);
            omitted[i] = advice == MADV_DONTFORK || (omitted[i] && advice != MADV_DOFORK);
            wiped[i] = advice == MADV_WIPEONFORK || (wiped[i] && advice != MADV_KEEPONFORK);
            msync(area + i * PAGE, PAGE, MS_ASYNC);
        }
        unsigned char seen[PAGES];
        look(area, seen);
        for (int i = 0; i < PAGES; i++) {
            CHECK(seen[i] == (omitted[i] ? 0 : wiped[i] ? 1 : 2));
        }
        fill_random(area, PAGES * PAGE, state);
    }
    /* An advice that fails half-way: the pages before the hole have it. */
    CHECK(madvise(area, PAGES * PAGE, MADV_DOFORK) == 0 && madvise(area, PAGES * PAGE, MADV_KEEPONFORK) == 0);
    CHECK(munmap(area + 8 * PAGE, PAGE) == 0);
    CHECK(madvise(area, 16 * PAGE, MADV_DONTFORK) == -1 && errno == ENOMEM);
    unsigned char seen[PAGES];
    memset(area, 1, 8 * PAGE);
    memset(area + 9 * PAGE, 1, (PAGES - 9) * PAGE);
    look(area, seen);
    CHECK(seen[0] == 0 && seen[7] == 0 && seen[9] == 0 && seen[15] == 0 && seen[16] == 2);
}

static void thrown_away(uint64_t *state) {
    unsigned char *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    fill_random(area, PAGES * PAGE, state);
    uint64_t kept = checksum(area + 8 * PAGE, 8 * PAGE);
    CHECK(madvise(area, 8 * PAGE, MADV_FREE) == 0);
    area[PAGE] = 5;
    CHECK(area[PAGE] == 5 && checksum(area + 8 * PAGE, 8 * PAGE) == kept);
    printf("freed %016llx\n", (unsigned long long)checksum(area, 8 * PAGE));

    int file = memfd_create("shared", 0);
    CHECK(file >= 0 && ftruncate(file, PAGES * PAGE) == 0);
    unsigned char *one = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *two = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, file, 0);
    unsigned char *plain = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(one != MAP_FAILED && two != MAP_FAILED && plain != MAP_FAILED);
    fill_random(one, PAGES * PAGE, state);
    fill_random(plain, PAGES * PAGE, state);
    CHECK(madvise(one + 2 * PAGE, 3 * PAGE, MADV_REMOVE) == 0 && madvise(plain + PAGE, PAGE, MADV_REMOVE) == 0);
    for (int i = 0; i < PAGE; i++) {
        CHECK(one[3 * PAGE + i] == 0 && two[4 * PAGE + i] == 0 && plain[PAGE + i] == 0);
    }
    CHECK(two[5 * PAGE] == one[5 * PAGE]);
    CHECK(madvise(file >= 0 ? area : one, PAGE, MADV_REMOVE) == -1 && errno == EINVAL);
    printf("%016llx %016llx\n", (unsigned long long)checksum(two, PAGES * PAGE),
           (unsigned long long)checksum(plain, PAGES * PAGE));
}

int main(void) {
    uint64_t state = fresh_seed();
    pairs(&state);
    thrown_away(&state);
    return 0;
}

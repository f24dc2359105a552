/* Calls that change memory and fail half-way: their changes up to that point remain. */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static sigjmp_buf back;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)info;
    (void)context;
    siglongjmp(back, 1);
}

/* Returns a byte, or -1 if it cannot be read. */
static int at(const volatile unsigned char *m) {
    return sigsetjmp(back, 1) ? -1 : *m;
}

static int is_writable(volatile unsigned char *m) {
    if (sigsetjmp(back, 1)) {
        return 0;
    }
    *m = *m;
    return 1;
}

/* Maps pages filled with 'a' and so on; a dot in the text is a hole. */
static unsigned char *make(const char *letters) {
    size_t n = strlen(letters);
    unsigned char *m = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    for (size_t i = 0; i < n; i++) {
        if (letters[i] == '.') {
            CHECK(munmap(m + i * PAGE, PAGE) == 0);
        } else {
            m[i * PAGE] = (unsigned char)letters[i];
        }
    }
    return m;
}

static void show(const char *what, long result, const unsigned char *m, int n) {
    printf("%s: %ld %d:", what, result, result < 0 ? errno : 0);
    for (int i = 0; i < n; i++) {
        printf(" %d", at(m + i * PAGE));
    }
    printf("\n");
    fflush(stdout);
}

static void once(void) {
    unsigned char *m = make("ab.de");
    CHECK(mprotect(m, 5 * PAGE, PROT_READ) == -1 && errno == ENOMEM);
    CHECK(!is_writable(m) && !is_writable(m + PAGE) && is_writable(m + 3 * PAGE));
    munmap(m, 5 * PAGE);

    m = make("ab.de");
    CHECK(madvise(m, 5 * PAGE, MADV_DONTNEED) == -1 && errno == ENOMEM);
    CHECK(at(m) == 0 && at(m + PAGE) == 0 && at(m + 3 * PAGE) == 0 && at(m + 4 * PAGE) == 0);
    munmap(m, 5 * PAGE);

    m = make("abcde");
    if (mlock(m + 2 * PAGE, PAGE) == 0) {
        CHECK(madvise(m, 5 * PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
        CHECK(at(m) == 0 && at(m + PAGE) == 0 && at(m + 2 * PAGE) == 'c' && at(m + 4 * PAGE) == 'e');
        munlock(m + 2 * PAGE, PAGE);
    }
    munmap(m, 5 * PAGE);

    /* The kernel's version decides what is at the target of a failed move. */
    m = make("ab.de");
    void *moved = mremap(m + 2 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, m + 3 * PAGE);
    CHECK(moved == MAP_FAILED);
    show("move of nothing", -1, m, 5);
    munmap(m, 5 * PAGE);
    m = make("abc.efg");
    moved = mremap(m, 5 * PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, m + 5 * PAGE);
    show("move with a hole", moved == MAP_FAILED ? -1 : 0, m, 7);
    munmap(m, 7 * PAGE);
    m = make("ab.de");
    moved = mremap(m, 2 * PAGE, 4 * PAGE, 0);
    CHECK(moved == MAP_FAILED && at(m) == 'a' && at(m + PAGE) == 'b' && at(m + 3 * PAGE) == 'd');
    munmap(m, 5 * PAGE);

    m = make("abc");
    void *huge = mmap(m, 1ul << 46, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(huge == MAP_FAILED);
    show("no room", -1, m, 3);
    huge = mmap(m + PAGE, 2 << 20, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB, -1, 0);
    show("no huge pages", huge == MAP_FAILED ? -1 : 0, m, 3);
    munmap(m, 3 * PAGE);

    /* An address that is not page-aligned: nothing happens. */
    m = make("abc");
    CHECK(munmap(m + 1, PAGE) == -1 && mprotect(m + 1, PAGE, PROT_NONE) == -1);
    CHECK(madvise(m + 1, PAGE, MADV_DONTNEED) == -1);
    CHECK(at(m) == 'a' && at(m + PAGE) == 'b' && at(m + 2 * PAGE) == 'c');
    munmap(m, 3 * PAGE);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
    for (int i = 0; i < 4; i++) {
        once();
    }
    return 0;
}

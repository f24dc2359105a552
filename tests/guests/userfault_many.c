/* Several threads fault at once, also inside `rep movsb`; pages of zeros, wakes apart from the copies, and pages that are
 * discarded and fault again. */
#include "guest.h"
#include "userfault.h"

enum { THREADS = 4, PAGES = 16 };

static int uffd;
static unsigned char *area;
static unsigned char copies[THREADS][PAGES * PAGE];

/* One `rep movsb` over all pages. */
static void copy_bytes(void *to, const void *from, size_t count) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static void *read_pages(void *arg) {
    unsigned char *to = arg;
    copy_bytes(to, area, PAGES * PAGE);
    return NULL;
}

static void *write_pages(void *arg) {
    size_t n = (size_t)arg;
    for (size_t page = 0; page < PAGES; page++) {
        area[page * PAGE + n] = (unsigned char)(n + 1);
    }
    return NULL;
}

/* Fills pages until each exists. Several threads may wait for one, whose messages vanish if they are unread. */
static void serve(unsigned char with) {
    size_t filled = 0;
    while (filled < PAGES) {
        struct uffd_msg message = next_message(uffd);
        void *page = (void *)(message.arg.pagefault.address & ~(PAGE - 1));
        if (((uintptr_t)page / PAGE) % 2) {
            int error = copy_byte(uffd, page, with + (int)filled, UFFDIO_COPY_MODE_DONTWAKE);
            CHECK(error == 0 || error == EEXIST);
            filled += error == 0;
            struct uffdio_range range = {.start = (uintptr_t)page, .len = PAGE};
            CHECK(ioctl(uffd, UFFDIO_WAKE, &range) == 0);
        } else {
            struct uffdio_zeropage zero = {.range = {.start = (uintptr_t)page, .len = PAGE}};
            int result = ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
            CHECK(result == 0 ? zero.zeropage == PAGE : errno == EEXIST && zero.zeropage == -EEXIST);
            filled += result == 0;
        }
    }
}

static void run(void *(*body)(void *), int reads, unsigned char with) {
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, body, reads ? (void *)copies[i] : (void *)i) == 0);
    }
    serve(with);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

int main(void) {
    uffd = userfault(0);
    area = new_pages(PAGES);
    register_pages(uffd, area, PAGES, UFFDIO_REGISTER_MODE_MISSING);
    run(read_pages, 1, 1);
    for (int i = 0; i < THREADS; i++) {
        CHECK(memcmp(copies[i], area, sizeof copies[i]) == 0);
    }
    printf("read %lx\n", checksum(area, PAGES * PAGE));
    CHECK(madvise(area, PAGES * PAGE, MADV_DONTNEED) == 0);
    run(write_pages, 0, 100);
    for (size_t page = 0; page < PAGES; page++) {
        for (size_t n = 0; n < THREADS; n++) {
            CHECK(area[page * PAGE + n] == n + 1);
        }
    }
    printf("written %lx\n", checksum(area, PAGES * PAGE));

    /* The second page exists: the request stops there. */
    CHECK(madvise(area, PAGES * PAGE, MADV_DONTNEED) == 0);
    CHECK(copy_byte(uffd, area + PAGE, 9, 0) == 0);
    struct uffdio_copy copy = {.dst = (uintptr_t)area, .src = (uintptr_t)copies[0], .len = 4 * PAGE};
    CHECK(ioctl(uffd, UFFDIO_COPY, &copy) < 0 && errno == EAGAIN && copy.copy == (long)PAGE);
    copy = (struct uffdio_copy){.dst = (uintptr_t)area + 2 * PAGE, .src = (uintptr_t)copies[1] + 5, .len = (PAGES - 2) * PAGE};
    CHECK(ioctl(uffd, UFFDIO_COPY, &copy) == 0 && copy.copy == (long)((PAGES - 2) * PAGE));
    CHECK(memcmp(area + 2 * PAGE, copies[1] + 5, (PAGES - 2) * PAGE) == 0);
    printf("filled %lx\n", checksum(area, PAGES * PAGE));
    CHECK(close(uffd) == 0);
    return 0;
}

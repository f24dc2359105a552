/* userfaultfd(2) as in its man page: a thread fills the pages that the others touch. */
#include "guest.h"
#include "userfault.h"

static uint64_t seed;
static unsigned faults;

static void *handle(void *arg) {
    int uffd = *(int *)arg;
    unsigned char page[PAGE];
    for (;;) {
        struct pollfd polled = {.fd = uffd, .events = POLLIN};
        CHECK(poll(&polled, 1, -1) == 1);
        CHECK(!(polled.revents & POLLERR));
        struct uffd_msg message;
        ssize_t got = read(uffd, &message, sizeof message);
        if (got < 0) {
            CHECK(errno == EAGAIN);
            continue;
        }
        CHECK(got == sizeof message && message.event == UFFD_EVENT_PAGEFAULT);
        fill_random(page, sizeof page, &seed);
        page[0] = (unsigned char)(message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE);
        faults++;
        struct uffdio_copy copy = {
            .dst = message.arg.pagefault.address & ~(PAGE - 1ul), .src = (uintptr_t)page, .len = PAGE};
        CHECK(ioctl(uffd, UFFDIO_COPY, &copy) == 0 && copy.copy == PAGE);
    }
    return NULL;
}

int main(void) {
    enum { PAGES = 24 };
    seed = fresh_seed();
    int uffd = userfault(UFFD_FEATURE_THREAD_ID & 0);
    unsigned char *area = new_pages(PAGES);
    area[5 * PAGE] = 77; /* This page is not missing. */
    register_pages(uffd, area, PAGES, UFFDIO_REGISTER_MODE_MISSING);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, handle, &uffd) == 0);

    uint64_t sum = 0;
    for (size_t at = 0xf; at < PAGES * PAGE; at += 1024) {
        sum = sum * 31 + area[at];
        if (at % 4096 < 1024) {
            sum += area[at / PAGE * PAGE];
        }
    }
    CHECK(area[5 * PAGE] == 77);
    CHECK(faults == PAGES - 1);
    printf("sum %lx, %u faults, checksum %lx\n", sum, faults, checksum(area, PAGES * PAGE));

    /* A write says so. */
    unsigned char *other = new_pages(2);
    register_pages(uffd, other, 2, UFFDIO_REGISTER_MODE_MISSING);
    other[100] = 3;
    CHECK(other[0] == 1 && other[100] == 3);
    CHECK(other[PAGE] == 0);
    printf("written %lx\n", checksum(other, 2 * PAGE));
    return 0;
}

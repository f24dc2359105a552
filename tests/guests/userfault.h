/* What the guests of userfaultfd(2) share. */
#ifndef USERFAULT_H
#define USERFAULT_H

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define PAGE 4096ul

/* A descriptor that does not wait, with these features. Only the program's own accesses fault, so no right is needed. */
static inline int userfault(uint64_t features) {
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (uffd < 0 && (errno == ENOSYS || errno == EPERM)) {
        puts("userfaultfd is not available here");
        exit(0);
    }
    CHECK(uffd >= 0);
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    CHECK(ioctl(uffd, UFFDIO_API, &api) == 0);
    CHECK(api.api == UFFD_API && (api.ioctls & 1ull << _UFFDIO_REGISTER) && (api.features & features) == features);
    return uffd;
}

static inline void *new_pages(size_t pages) {
    void *area = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    CHECK(madvise(area, pages * PAGE, MADV_NOHUGEPAGE) == 0 || errno == EINVAL);
    return area;
}

static inline void register_pages(int uffd, void *area, size_t pages, uint64_t mode) {
    struct uffdio_register registered = {
        .range = {.start = (uintptr_t)area, .len = pages * PAGE},
        .mode = mode,
    };
    CHECK(ioctl(uffd, UFFDIO_REGISTER, &registered) == 0);
    CHECK(registered.ioctls & 1ull << _UFFDIO_COPY);
}

/* Fills one page with a byte. Returns the error. */
static inline int copy_byte(int uffd, void *page, int byte, uint64_t mode) {
    char source[PAGE];
    memset(source, byte, sizeof source);
    struct uffdio_copy copy = {.dst = (uintptr_t)page, .src = (uintptr_t)source, .len = PAGE, .mode = mode};
    int result = ioctl(uffd, UFFDIO_COPY, &copy);
    CHECK(result == 0 ? copy.copy == PAGE : copy.copy == -errno || copy.copy > 0 || copy.copy == 0);
    return result == 0 ? 0 : errno;
}

/* The address of the next message's page; waits for the message. */
static inline struct uffd_msg next_message(int uffd) {
    struct uffd_msg message;
    for (;;) {
        struct pollfd polled = {.fd = uffd, .events = POLLIN};
        CHECK(poll(&polled, 1, -1) == 1);
        ssize_t got = read(uffd, &message, sizeof message);
        if (got == sizeof message) {
            CHECK(message.event == UFFD_EVENT_PAGEFAULT);
            return message;
        }
        CHECK(got < 0 && errno == EAGAIN);
    }
}

#endif

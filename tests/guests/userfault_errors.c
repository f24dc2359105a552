/* The errors of userfaultfd(2) and its requests, as the kernel gives them; and SIGBUS instead of messages. */
#include "guest.h"
#include "userfault.h"
#include <setjmp.h>

#define FAILS(call, error)                                                                                     \
    do {                                                                                                       \
        errno = 0;                                                                                             \
        CHECK((call) == -1 && errno == (error));                                                               \
    } while (0)

static int uffd;

static int request(int fd, unsigned long number, void *argument) {
    return ioctl(fd, number, argument);
}

static void of_api(void) {
    FAILS(syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY | 0x40000000), EINVAL);
    uffd = (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY | O_CLOEXEC);
    CHECK(uffd >= 0 && fcntl(uffd, F_GETFD) == FD_CLOEXEC && !(fcntl(uffd, F_GETFL) & O_NONBLOCK));
    struct uffdio_range range = {.start = 0x10000000, .len = PAGE};
    FAILS(request(uffd, UFFDIO_UNREGISTER, &range), EINVAL);
    struct uffdio_api api = {.api = 0xab, .features = 0};
    FAILS(request(uffd, UFFDIO_API, &api), EINVAL);
    CHECK(api.api == 0 && api.ioctls == 0);
    api = (struct uffdio_api){.api = UFFD_API, .features = 1ull << 60};
    FAILS(request(uffd, UFFDIO_API, &api), EINVAL);
    CHECK(api.api == 0);
    FAILS(request(uffd, UFFDIO_API, NULL), EFAULT);
    api = (struct uffdio_api){.api = UFFD_API};
    CHECK(request(uffd, UFFDIO_API, &api) == 0);
    CHECK(api.ioctls == (1ull << _UFFDIO_API | 1ull << _UFFDIO_REGISTER | 1ull << _UFFDIO_UNREGISTER));
    api = (struct uffdio_api){.api = UFFD_API};
    FAILS(request(uffd, UFFDIO_API, &api), EINVAL);
    CHECK(api.api == 0);
    FAILS(request(uffd, _IO(0xaa, 0x33), NULL), EINVAL);
    CHECK(close(uffd) == 0);
    FAILS(request(uffd, UFFDIO_API, &api), EBADF);
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    FAILS(request(pipes[0], UFFDIO_API, &api), ENOTTY);
    CHECK(close(pipes[0]) == 0 && close(pipes[1]) == 0);
    puts("api");
}

static void of_ranges(unsigned char *area) {
    uintptr_t at = (uintptr_t)area;
    struct uffdio_register registered = {.range = {at, PAGE}, .mode = 0};
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);
    registered.mode = 1ull << 40;
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);
    registered.mode = UFFDIO_REGISTER_MODE_MISSING;
    registered.range.start = at + 1;
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);
    registered.range = (struct uffdio_range){at, PAGE + 1};
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);
    registered.range.len = 0;
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);
    registered.range = (struct uffdio_range){0x1000, PAGE};
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);
    registered.range = (struct uffdio_range){1ull << 62, PAGE};
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);
    registered.range = (struct uffdio_range){at, 1ull << 62};
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);
    FAILS(request(uffd, UFFDIO_REGISTER, (void *)8), EFAULT);
    /* A private file. */
    int fd = open("/proc/self/exe", O_RDONLY);
    void *file = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(fd >= 0 && file != MAP_FAILED && close(fd) == 0);
    registered.range = (struct uffdio_range){(uintptr_t)file, PAGE};
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);
    CHECK(munmap(file, PAGE) == 0);
    FAILS(request(uffd, UFFDIO_REGISTER, &registered), EINVAL);

    register_pages(uffd, area, 4, UFFDIO_REGISTER_MODE_MISSING);
    register_pages(uffd, area, 2, UFFDIO_REGISTER_MODE_MISSING);
    int other = userfault(0);
    registered.range = (struct uffdio_range){at, PAGE};
    FAILS(request(other, UFFDIO_REGISTER, &registered), EBUSY);
    struct uffdio_range range = {at, PAGE};
    FAILS(request(other, UFFDIO_UNREGISTER, &range), EINVAL);
    CHECK(close(other) == 0);
    range.len = 5;
    FAILS(request(uffd, UFFDIO_UNREGISTER, &range), EINVAL);
    FAILS(request(uffd, UFFDIO_WAKE, &range), EINVAL);
    range.len = 0;
    FAILS(request(uffd, UFFDIO_WAKE, &range), EINVAL);
    range.len = 4096 * PAGE;
    CHECK(request(uffd, UFFDIO_WAKE, &range) == 0);
    puts("ranges");
}

static void of_filling(unsigned char *area) {
    static unsigned char source[4 * PAGE];
    uintptr_t at = (uintptr_t)area, from = (uintptr_t)source;
    struct uffdio_copy copy = {.dst = at + 1, .src = from, .len = PAGE, .copy = 7};
    FAILS(request(uffd, UFFDIO_COPY, &copy), EINVAL);
    CHECK(copy.copy == 7);
    copy = (struct uffdio_copy){.dst = at, .src = from, .len = PAGE / 2};
    FAILS(request(uffd, UFFDIO_COPY, &copy), EINVAL);
    copy = (struct uffdio_copy){.dst = at, .src = from, .len = PAGE, .mode = 1 << 5};
    FAILS(request(uffd, UFFDIO_COPY, &copy), EINVAL);
    copy = (struct uffdio_copy){.dst = at, .src = from, .len = PAGE, .mode = UFFDIO_COPY_MODE_WP};
    FAILS(request(uffd, UFFDIO_COPY, &copy), EINVAL);
    CHECK(copy.copy == -EINVAL);
    copy = (struct uffdio_copy){.dst = at, .src = 0x10000, .len = PAGE};
    FAILS(request(uffd, UFFDIO_COPY, &copy), EFAULT);
    CHECK(copy.copy == -EFAULT);
    /* From a missing page. */
    copy = (struct uffdio_copy){.dst = at, .src = at + PAGE, .len = PAGE};
    FAILS(request(uffd, UFFDIO_COPY, &copy), EFAULT);
    /* Not registered; beyond the registered range. */
    copy = (struct uffdio_copy){.dst = at + 6 * PAGE, .src = from, .len = PAGE};
    FAILS(request(uffd, UFFDIO_COPY, &copy), ENOENT);
    CHECK(copy.copy == -ENOENT);
    copy = (struct uffdio_copy){.dst = at + 3 * PAGE, .src = from, .len = 2 * PAGE};
    FAILS(request(uffd, UFFDIO_COPY, &copy), ENOENT);
    CHECK(copy_byte(uffd, area, 4, 0) == 0 && copy_byte(uffd, area, 4, 0) == EEXIST);
    CHECK(area[0] == 4);
    struct uffdio_zeropage zero = {.range = {at, PAGE}};
    FAILS(request(uffd, UFFDIO_ZEROPAGE, &zero), EEXIST);
    CHECK(zero.zeropage == -EEXIST);
    zero.mode = 2;
    FAILS(request(uffd, UFFDIO_ZEROPAGE, &zero), EINVAL);
    zero = (struct uffdio_zeropage){.range = {at + 2 * PAGE, 3 * PAGE}};
    FAILS(request(uffd, UFFDIO_ZEROPAGE, &zero), ENOENT);
    zero.range.len = 2 * PAGE;
    CHECK(request(uffd, UFFDIO_ZEROPAGE, &zero) == 0 && zero.zeropage == 2 * (long)PAGE);
    CHECK(area[2 * PAGE] == 0 && area[3 * PAGE] == 0);
    struct uffdio_writeprotect protect = {.range = {at, PAGE}, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    FAILS(request(uffd, UFFDIO_WRITEPROTECT, &protect), ENOENT);
    protect.mode = UFFDIO_WRITEPROTECT_MODE_WP | UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
    FAILS(request(uffd, UFFDIO_WRITEPROTECT, &protect), EINVAL);
    puts("filling");
}

static sigjmp_buf back;
static volatile uintptr_t faulted;
static volatile int code;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    faulted = (uintptr_t)info->si_addr;
    code = info->si_code;
    siglongjmp(back, signal);
}

static void of_accesses(unsigned char *area) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
    /* Rights that the program itself has taken away are its own error, also where a page is missing. */
    CHECK(mprotect(area, 2 * PAGE, PROT_READ) == 0);
    for (size_t page = 0; page < 2; page++) {
        int signal = sigsetjmp(back, 1);
        if (signal == 0) {
            *(volatile unsigned char *)(area + page * PAGE + 9) = 1;
        }
        CHECK(signal == SIGSEGV && code == SEGV_ACCERR && faulted == (uintptr_t)area + page * PAGE + 9);
    }
    CHECK(mprotect(area, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
    struct uffd_msg message;
    CHECK(read(uffd, &message, sizeof message) < 0 && errno == EAGAIN);
    CHECK(close(uffd) == 0);

    uffd = userfault(UFFD_FEATURE_SIGBUS);
    unsigned char *other = new_pages(2);
    register_pages(uffd, other, 2, UFFDIO_REGISTER_MODE_MISSING);
    int signal = sigsetjmp(back, 1);
    if (signal == 0) {
        *(volatile unsigned char *)(other + PAGE + 17) = 1;
    }
    CHECK(signal == SIGBUS && code == BUS_ADRERR && faulted == (uintptr_t)other + PAGE + 17);
    CHECK(copy_byte(uffd, other + PAGE, 3, 0) == 0);
    other[PAGE + 17]++;
    CHECK(other[PAGE + 17] == 4 && other[PAGE] == 3);
    CHECK(close(uffd) == 0);
    CHECK(other[0] == 0);
    puts("accesses");
}

static void *touch(void *at) {
    return (void *)(uintptr_t)*(volatile unsigned char *)at;
}

static void of_messages(void) {
    int uffd = userfault(UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS);
    unsigned char *area = new_pages(1);
    register_pages(uffd, area, 1, UFFDIO_REGISTER_MODE_MISSING);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, touch, area + 33) == 0);
    struct uffd_msg message = next_message(uffd);
    CHECK(message.arg.pagefault.address == (uintptr_t)area + 33 && message.arg.pagefault.flags == 0);
    CHECK(message.arg.pagefault.feat.ptid != 0 && message.arg.pagefault.feat.ptid != (unsigned)getpid());
    CHECK(syscall(SYS_tgkill, getpid(), message.arg.pagefault.feat.ptid, 0) == 0);
    CHECK(copy_byte(uffd, area, 6, 0) == 0);
    void *seen;
    CHECK(pthread_join(thread, &seen) == 0 && seen == (void *)6);
    CHECK(close(uffd) == 0);
    puts("messages");
}

int main(void) {
    uffd = userfault(0);
    CHECK(close(uffd) == 0);
    of_api();
    uffd = userfault(0);
    unsigned char *area = new_pages(8);
    of_ranges(area);
    of_filling(area);
    of_accesses(area);
    of_messages();
    return 0;
}

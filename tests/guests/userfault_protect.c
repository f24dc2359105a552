/* Pages that userfaultfd(2) protects from writing: a snapshot of memory that others go on to change. */
#include "guest.h"
#include "userfault.h"

enum { PAGES = 8, ROUNDS = 3 };

/* UFFD_FEATURE_WP_UNPOPULATED, since Linux 6.4 */
#define WP_UNPOPULATED (1ull << 13)

static int uffd;
static uint64_t *area;
static unsigned char saved[PAGES * PAGE];
static unsigned faults;

static void set_protection(void *at, size_t pages, uint64_t mode) {
    struct uffdio_writeprotect protect = {.range = {(uintptr_t)at, pages * PAGE}, .mode = mode};
    CHECK(ioctl(uffd, UFFDIO_WRITEPROTECT, &protect) == 0);
}

static void *change(void *arg) {
    uint64_t *seed = arg;
    for (int i = 0; i < 200; i++) {
        uint64_t value = next_random(seed);
        area[value % (PAGES * PAGE / 8)] = value;
    }
    return NULL;
}

/* Saves each page before it changes. */
static void *save(void *arg) {
    (void)arg;
    for (;;) {
        struct uffd_msg message = next_message(uffd);
        if (message.arg.pagefault.address == (uintptr_t)area + PAGES * PAGE) {
            CHECK(copy_byte(uffd, (unsigned char *)area + PAGES * PAGE, 1, 0) == 0);
            return NULL;
        }
        CHECK(message.arg.pagefault.flags == (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_WRITE));
        size_t offset = message.arg.pagefault.address - (uintptr_t)area;
        CHECK(offset % PAGE == 0 && offset < PAGES * PAGE);
        memcpy(saved + offset, (unsigned char *)area + offset, PAGE);
        faults++;
        set_protection((unsigned char *)area + offset, 1, 0);
    }
}

static void *write_byte(void *at) {
    *(volatile unsigned char *)at = 9;
    return NULL;
}

/* With this feature, pages that do not exist can be protected. */
static void protect_absent(void) {
    CHECK(close(uffd) == 0);
    uffd = (int)syscall(SYS_userfaultfd, O_NONBLOCK | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API, .features = WP_UNPOPULATED};
    CHECK(uffd >= 0);
    if (ioctl(uffd, UFFDIO_API, &api) < 0) {
        CHECK(errno == EINVAL && !recorded());
        puts("an old kernel");
        return;
    }
    unsigned char *own = new_pages(2);
    register_pages(uffd, own, 2, UFFDIO_REGISTER_MODE_WP);
    set_protection(own, 2, UFFDIO_WRITEPROTECT_MODE_WP);
    CHECK(own[0] == 0);
    for (size_t page = 0; page < 2; page++) {
        pthread_t writer;
        CHECK(pthread_create(&writer, NULL, write_byte, own + page * PAGE + 5) == 0);
        struct uffd_msg message = next_message(uffd);
        CHECK(message.arg.pagefault.address == (uintptr_t)own + page * PAGE);
        CHECK(message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP);
        set_protection(own, 2, 0);
        CHECK(pthread_join(writer, NULL) == 0 && own[page * PAGE + 5] == 9);
        set_protection(own, 2, UFFDIO_WRITEPROTECT_MODE_WP);
    }
    puts("absent pages");
}

int main(void) {
    uint64_t seed = fresh_seed();
    uffd = userfault(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    area = new_pages(PAGES + 1);
    fill_random(area, PAGES * PAGE, &seed);
    register_pages(uffd, area, PAGES, UFFDIO_REGISTER_MODE_WP);
    /* Ends the thread that saves. */
    register_pages(uffd, (unsigned char *)area + PAGES * PAGE, 1, UFFDIO_REGISTER_MODE_MISSING);
    pthread_t saver;
    CHECK(pthread_create(&saver, NULL, save, NULL) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(saved, area, sizeof saved);
        uint64_t before = checksum(area, PAGES * PAGE);
        memset(saved, 0, sizeof saved);
        set_protection(area, PAGES, UFFDIO_WRITEPROTECT_MODE_WP);
        CHECK(checksum(area, PAGES * PAGE) == before);
        pthread_t changers[2];
        uint64_t seeds[2] = {next_random(&seed), next_random(&seed)};
        for (int i = 0; i < 2; i++) {
            CHECK(pthread_create(&changers[i], NULL, change, &seeds[i]) == 0);
        }
        for (int i = 0; i < 2; i++) {
            CHECK(pthread_join(changers[i], NULL) == 0);
        }
        CHECK(checksum(saved, PAGES * PAGE) == before);
        printf("%lx became %lx\n", before, checksum(area, PAGES * PAGE));
    }
    CHECK(faults >= ROUNDS * PAGES);
    /* Discarded pages are not protected any more. */
    set_protection(area, PAGES, UFFDIO_WRITEPROTECT_MODE_WP);
    CHECK(madvise(area, PAGE, MADV_DONTNEED) == 0);
    unsigned seen = faults;
    area[0] = 1;
    CHECK(faults == seen);
    /* Pages that do not exist cannot be protected. */
    CHECK(madvise(area, PAGE, MADV_DONTNEED) == 0);
    set_protection(area, 1, UFFDIO_WRITEPROTECT_MODE_WP);
    area[0] = 2;
    CHECK(faults == seen);
    /* A fork may write. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        area[PAGE / 8] = 1;
        _exit(3);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
    CHECK(((unsigned char *)area)[PAGES * PAGE] == 1);
    CHECK(pthread_join(saver, NULL) == 0);
    printf("%x\n", ((unsigned char *)area)[PAGES * PAGE]);
    protect_absent();
    return 0;
}

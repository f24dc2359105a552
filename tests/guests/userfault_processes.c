/* Another process fills the pages (its descriptor is a copy); job control while a thread waits; the end of the other process. */
#include "guest.h"
#include "userfault.h"

enum { PAGES = 6 };

static unsigned char *area;

/* Fills all pages but the last, with the bytes that it gets, and ends while somebody waits for that one. */
static void serve(int uffd, int bytes) {
    for (;;) {
        struct uffd_msg message = next_message(uffd);
        unsigned char *page = (unsigned char *)message.arg.pagefault.address;
        if (page == area + (PAGES - 1) * PAGE) {
            _exit(5);
        }
        unsigned char byte;
        CHECK(read(bytes, &byte, 1) == 1);
        CHECK(copy_byte(uffd, page, byte, 0) == 0);
        /* Here the page is not registered. */
        CHECK(*page == 0);
    }
}

static void *touch(void *at) {
    return (void *)(uintptr_t)*(volatile unsigned char *)at;
}

/* A child whose thread waits is stopped and continued, and killed. */
static void job_control(void) {
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int uffd = userfault(0);
        unsigned char *own = new_pages(2);
        register_pages(uffd, own, 2, UFFDIO_REGISTER_MODE_MISSING);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, touch, own) == 0);
        CHECK(next_message(uffd).arg.pagefault.address == (uintptr_t)own);
        CHECK(write(pipes[1], "w", 1) == 1);
        CHECK(raise(SIGSTOP) == 0);
        CHECK(copy_byte(uffd, own, 4, 0) == 0);
        void *seen;
        CHECK(pthread_join(thread, &seen) == 0 && seen == (void *)4);
        CHECK(write(pipes[1], "j", 1) == 1);
        touch(own + PAGE);
        _exit(1);
    }
    char byte;
    int status;
    CHECK(read(pipes[0], &byte, 1) == 1 && byte == 'w');
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    CHECK(kill(child, SIGCONT) == 0);
    CHECK(read(pipes[0], &byte, 1) == 1 && byte == 'j');
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    puts("job control");
}

int main(void) {
    uint64_t seed = fresh_seed();
    int uffd = userfault(0);
    area = new_pages(PAGES);
    register_pages(uffd, area, PAGES, UFFDIO_REGISTER_MODE_MISSING);
    int bytes[2];
    CHECK(pipe(bytes) == 0);
    pid_t server = fork();
    CHECK(server >= 0);
    if (server == 0) {
        serve(uffd, bytes[0]);
    }
    CHECK(close(uffd) == 0);
    for (size_t page = 0; page < PAGES - 1; page++) {
        unsigned char byte = (unsigned char)(1 + next_random(&seed) % 255);
        CHECK(write(bytes[1], &byte, 1) == 1);
        CHECK(area[page * PAGE + 7] == byte);
        area[page * PAGE]++;
    }
    /* The server ends. */
    CHECK(area[(PAGES - 1) * PAGE] == 0);
    int status;
    CHECK(waitpid(server, &status, 0) == server && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    area[(PAGES - 1) * PAGE]++;
    printf("%lx\n", checksum(area, PAGES * PAGE));
    job_control();
    return 0;
}

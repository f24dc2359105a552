/* The ends of a wait for a page: a signal's handler, unregistering, closing, mprotect and munmap; and what a fork has of it. */
#include "guest.h"
#include "userfault.h"

static volatile sig_atomic_t handled;
static unsigned char *area;

static void on_signal(int signal) {
    (void)signal;
    handled++;
}

struct touched {
    unsigned char *at;
    unsigned char seen;
};

static void *touch(void *arg) {
    struct touched *touched = arg;
    touched->seen = *(volatile unsigned char *)touched->at;
    return NULL;
}

static pthread_t begin(struct touched *touched, unsigned char *at) {
    pthread_t thread;
    touched->at = at;
    touched->seen = 255;
    CHECK(pthread_create(&thread, NULL, touch, touched) == 0);
    return thread;
}

static unsigned char *page_of(int uffd) {
    return (unsigned char *)(next_message(uffd).arg.pagefault.address);
}

static int is_quiet(int uffd) {
    struct uffd_msg message;
    return read(uffd, &message, sizeof message) < 0 && errno == EAGAIN;
}

static void by_signal(int uffd) {
    struct touched touched;
    pthread_t thread = begin(&touched, area + 3);
    CHECK(page_of(uffd) == area);
    CHECK(pthread_kill(thread, SIGUSR1) == 0);
    /* After the handler the instruction faults again. */
    CHECK(page_of(uffd) == area);
    CHECK(handled == 1);
    CHECK(is_quiet(uffd));
    /* An ignored signal changes nothing that can be seen. */
    CHECK(pthread_kill(thread, SIGUSR2) == 0);
    CHECK(copy_byte(uffd, area, 5, 0) == 0);
    CHECK(pthread_join(thread, NULL) == 0 && touched.seen == 5);
    puts("by a signal");
}

static void by_timer(int uffd) {
    /* The only other thread waits, too. */
    struct touched touched;
    pthread_t thread = begin(&touched, area + PAGE);
    CHECK(page_of(uffd) == area + PAGE);
    sigset_t set, old;
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, &old) == 0);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
    CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
    CHECK(page_of(uffd) == area + PAGE);
    CHECK(handled == 2);
    CHECK(timer_delete(timer) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
    CHECK(copy_byte(uffd, area + PAGE, 6, 0) == 0);
    CHECK(pthread_join(thread, NULL) == 0 && touched.seen == 6);
    puts("by a timer");
}

static void by_unregistering(int uffd) {
    struct touched touched;
    pthread_t thread = begin(&touched, area + 2 * PAGE);
    CHECK(page_of(uffd) == area + 2 * PAGE);
    struct uffdio_range range = {.start = (uintptr_t)area + 2 * PAGE, .len = PAGE};
    CHECK(ioctl(uffd, UFFDIO_UNREGISTER, &range) == 0);
    CHECK(pthread_join(thread, NULL) == 0 && touched.seen == 0);
    puts("by unregistering");
}

static void in_fork(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(area[3 * PAGE] == 0 && area[0] == 5);
        area[3 * PAGE] = 1;
        /* System calls can use these pages, too. */
        int pipes[2];
        CHECK(pipe(pipes) == 0 && write(pipes[1], "hello", 5) == 5 && read(pipes[0], area + 4 * PAGE, 5) == 5);
        CHECK(memcmp(area + 4 * PAGE, "hello", 5) == 0);
        _exit(7);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    puts("fork");
}

static void change(int uffd) {
    struct touched touched;
    /* Rights that the page gets when it is filled. */
    CHECK(mprotect(area + 3 * PAGE, PAGE, PROT_READ) == 0);
    pthread_t thread = begin(&touched, area + 3 * PAGE);
    CHECK(page_of(uffd) == area + 3 * PAGE);
    CHECK(copy_byte(uffd, area + 3 * PAGE, 8, 0) == 0);
    CHECK(pthread_join(thread, NULL) == 0 && touched.seen == 8);
    /* System calls do not wait. */
    int pipes[2];
    CHECK(pipe(pipes) == 0 && write(pipes[1], "hello", 5) == 5);
    CHECK(read(pipes[0], area + 4 * PAGE, 5) < 0 && errno == EFAULT);
    CHECK(write(pipes[1], area + 4 * PAGE, 5) < 0 && errno == EFAULT);
    CHECK(close(pipes[0]) == 0 && close(pipes[1]) == 0);
    CHECK(is_quiet(uffd));
    /* Pages that are mapped anew are not registered. */
    CHECK(munmap(area + 4 * PAGE, PAGE) == 0);
    CHECK(mmap(area + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
          area + 4 * PAGE);
    CHECK(area[4 * PAGE] == 0);
    CHECK(copy_byte(uffd, area + 4 * PAGE, 1, 0) == ENOENT);
    puts("changes");
}

static void *wait_and_close(void *arg) {
    int uffd = *(int *)arg;
    CHECK(page_of(uffd) == area + 5 * PAGE);
    int other = dup(uffd);
    CHECK(other >= 0 && close(uffd) == 0);
    struct uffdio_range range = {.start = (uintptr_t)area + 5 * PAGE, .len = PAGE};
    CHECK(ioctl(other, UFFDIO_WAKE, &range) == 0);
    CHECK(page_of(other) == area + 5 * PAGE);
    CHECK(close(other) == 0);
    return NULL;
}

static void by_closing(int uffd) {
    pthread_t closer;
    CHECK(pthread_create(&closer, NULL, wait_and_close, &uffd) == 0);
    CHECK(area[5 * PAGE] == 0);
    CHECK(pthread_join(closer, NULL) == 0);
    area[6 * PAGE] = 1;
    puts("by closing");
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(signal(SIGUSR2, SIG_IGN) != SIG_ERR);
    int uffd = userfault(0);
    area = new_pages(8);
    register_pages(uffd, area, 8, UFFDIO_REGISTER_MODE_MISSING);
    by_signal(uffd);
    by_timer(uffd);
    by_unregistering(uffd);
    in_fork();
    change(uffd);
    by_closing(uffd);
    printf("%lx\n", checksum(area, 8 * PAGE));
    return 0;
}

/* Linux AIO (io_setup(2) and its like) in one thread: reads, writes, vectors, syncs, an eventfd, polls, errors,
 * minima and timeouts, cancellation, memory that is mapped from the file. The contents are random. */
#include "aio.h"
#include "guest.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum { BLOCK = 4096, BLOCKS = 8 };

static unsigned char *blocks;

static int temporary_file(int flags) {
    char path[] = "aio-XXXXXX";
    int fd = mkostemp(path, flags);
    if (fd < 0) {
        CHECK(errno == EINVAL && flags & O_DIRECT);
        fd = mkostemp(path, 0);
    }
    CHECK(fd >= 0 && unlink(path) == 0);
    return fd;
}

static void writes_and_reads(aio_context_t context, int fd, uint64_t *seed) {
    struct iocb all[BLOCKS];
    fill_random(blocks, BLOCKS * BLOCK, seed);
    uint64_t sum = checksum(blocks, BLOCKS * BLOCK);
    for (int i = 0; i < BLOCKS; i++) {
        all[i] = request(IOCB_CMD_PWRITE, fd, blocks + i * BLOCK, BLOCK, i * BLOCK);
        all[i].aio_key = 77; /* The kernel overwrites it. */
        all[i].aio_data = next_random(seed);
        submit_one(context, &all[i]);
        CHECK(all[i].aio_key == 0);
    }
    int seen = 0;
    while (seen < BLOCKS) {
        struct io_event events[3];
        long n = io_getevents(context, 1, 3, events, NULL);
        CHECK(n >= 1 && n <= 3);
        for (long i = 0; i < n; i++) {
            struct iocb *of = (struct iocb *)events[i].obj;
            CHECK(of >= all && of < all + BLOCKS && events[i].data == of->aio_data);
            CHECK(events[i].res == BLOCK && events[i].res2 == 0);
        }
        seen += (int)n;
    }
    struct iocb sync = request(IOCB_CMD_FDSYNC, fd, NULL, 0, 0);
    CHECK(finish_one(context, &sync) == 0);
    sync.aio_lio_opcode = IOCB_CMD_FSYNC;
    CHECK(finish_one(context, &sync) == 0);
    /* Reads, all in one call, and more than the file has. */
    memset(blocks, 0, BLOCKS * BLOCK);
    struct iocb *list[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        all[i] = request(IOCB_CMD_PREAD, fd, blocks + i * BLOCK, BLOCK, i * BLOCK);
        list[i] = &all[i];
    }
    CHECK(io_submit(context, BLOCKS, list) == BLOCKS);
    struct io_event events[BLOCKS];
    CHECK(io_getevents(context, BLOCKS, BLOCKS, events, NULL) == BLOCKS);
    CHECK(checksum(blocks, BLOCKS * BLOCK) == sum);
    struct iocb beyond = request(IOCB_CMD_PREAD, fd, blocks, BLOCK, BLOCKS * BLOCK);
    CHECK(finish_one(context, &beyond) == 0);
    printf("contents %016llx\n", (unsigned long long)sum);
}

static void vectors(aio_context_t context, int fd, uint64_t *seed) {
    fill_random(blocks, 4 * BLOCK, seed);
    struct iovec out[2] = {{blocks + BLOCK, BLOCK}, {blocks, BLOCK}};
    struct iocb request_out = request(IOCB_CMD_PWRITEV, fd, out, 2, 0);
    CHECK(finish_one(context, &request_out) == 2 * BLOCK);
    struct iovec in[2] = {{blocks + 2 * BLOCK, BLOCK}, {blocks + 3 * BLOCK, BLOCK}};
    struct iocb request_in = request(IOCB_CMD_PREADV, fd, in, 2, 0);
    CHECK(finish_one(context, &request_in) == 2 * BLOCK);
    CHECK(memcmp(blocks + 2 * BLOCK, blocks + BLOCK, BLOCK) == 0);
    CHECK(memcmp(blocks + 3 * BLOCK, blocks, BLOCK) == 0);
    printf("vectors %016llx\n", (unsigned long long)checksum(blocks, 4 * BLOCK));
}

static void with_eventfd(aio_context_t context, int fd) {
    int event = eventfd(0, EFD_CLOEXEC);
    CHECK(event >= 0);
    struct iocb read_back = request(IOCB_CMD_PREAD, fd, blocks, BLOCK, 0);
    read_back.aio_flags = IOCB_FLAG_RESFD;
    read_back.aio_resfd = (uint32_t)event;
    submit_one(context, &read_back);
    uint64_t count = 0;
    CHECK(read(event, &count, sizeof count) == sizeof count && count == 1);
    struct io_event done;
    CHECK(io_getevents(context, 1, 1, &done, NULL) == 1 && done.res == BLOCK);
    close(event);
}

static void polls(aio_context_t context) {
    int ends[2];
    char byte = 0;
    CHECK(pipe(ends) == 0);
    struct iocb poll_end = request(IOCB_CMD_POLL, ends[0], (void *)POLLIN, 0, 0);
    submit_one(context, &poll_end);
    struct io_event done;
    struct timespec now = {0, 0}, soon = {0, 20000000};
    CHECK(io_getevents(context, 0, 1, &done, NULL) == 0);
    CHECK(io_getevents(context, 1, 1, &done, &now) == 0);
    CHECK(io_getevents(context, 1, 1, &done, &soon) == 0);
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK(io_getevents(context, 1, 1, &done, NULL) == 1);
    CHECK(done.obj == (uintptr_t)&poll_end && done.res & POLLIN);
    /* A pipe is read and written in the call itself. */
    struct iocb from_pipe = request(IOCB_CMD_PREAD, ends[0], &byte, 1, 0);
    CHECK(finish_one(context, &from_pipe) == 1 && byte == 'x');
    struct iocb to_pipe = request(IOCB_CMD_PWRITE, ends[1], "y", 1, 0);
    CHECK(finish_one(context, &to_pipe) == 1);
    CHECK(finish_one(context, &from_pipe) == 1 && byte == 'y');
    /* A poll is cancelled. */
    submit_one(context, &poll_end);
    CHECK(io_cancel(context, &poll_end, &done) == -1 && errno == EINPROGRESS);
    CHECK(io_getevents(context, 1, 1, &done, NULL) == 1 && done.obj == (uintptr_t)&poll_end);
    CHECK(io_cancel(context, &poll_end, &done) == -1 && errno == EINVAL);
    /* The end of a pipe, a child's bytes, and waits for both. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sleep_ms(20);
        CHECK(write(ends[1], "z", 1) == 1);
        sleep_ms(20);
        CHECK(write(ends[1], "!", 1) == 1);
        _exit(0);
    }
    submit_one(context, &poll_end);
    CHECK(io_getevents(context, 1, 1, &done, NULL) == 1 && done.res & POLLIN);
    CHECK(finish_one(context, &from_pipe) == 1 && byte == 'z');
    CHECK(finish_one(context, &from_pipe) == 1 && byte == '!');
    expect_exit(child, 0);
    close(ends[0]);
    close(ends[1]);
}

static void errors(aio_context_t context, int fd) {
    aio_context_t other = 0, used = 1;
    CHECK(io_setup(0, &other) == -1 && errno == EINVAL);
    CHECK(io_setup(4, &used) == -1 && errno == EINVAL);
    CHECK(io_setup(4, NULL) == -1 && errno == EFAULT);
    CHECK(io_setup(1u << 30, &other) == -1 && (errno == EINVAL || errno == EAGAIN));
    CHECK(io_destroy(1) == -1 && errno == EINVAL);
    CHECK(io_getevents(context + 4096 * 1024, 0, 1, NULL, NULL) == -1 && errno == EINVAL);
    struct io_event done;
    CHECK(io_getevents(context, 2, 1, &done, NULL) == -1 && errno == EINVAL);
    CHECK(io_submit(context, -1, NULL) == -1 && errno == EINVAL);
    CHECK(io_submit(context, 0, NULL) == 0);
    CHECK(io_submit(context, 1, NULL) == -1 && errno == EFAULT);
    struct iocb *bad[] = {(struct iocb *)8};
    CHECK(io_submit(context, 1, bad) == -1 && errno == EFAULT);
    struct iocb good = request(IOCB_CMD_PREAD, fd, blocks, BLOCK, 0);
    struct iocb closed = request(IOCB_CMD_PREAD, 999, blocks, BLOCK, 0);
    struct iocb unknown = request(99, fd, blocks, BLOCK, 0);
    struct iocb nowhere = request(IOCB_CMD_PREAD, fd, (void *)4096, BLOCK, 0);
    struct iocb *list[] = {&good, &closed, &good};
    CHECK(io_submit(context, 3, list) == 1);
    CHECK(io_getevents(context, 1, 2, (struct io_event[2]){{0}}, NULL) == 1);
    list[0] = &closed;
    CHECK(io_submit(context, 2, list) == -1 && errno == EBADF);
    list[0] = &unknown;
    CHECK(io_submit(context, 1, list) == -1 && errno == EINVAL);
    CHECK(finish_one(context, &nowhere) == -EFAULT);
}

/* The file is mapped while it is written. */
static void mapped(aio_context_t context, int fd, uint64_t *seed) {
    unsigned char *shared = mmap(NULL, 2 * BLOCK, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char *private = mmap(NULL, 2 * BLOCK, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(shared != MAP_FAILED && private != MAP_FAILED);
    fill_random(blocks, BLOCK, seed);
    struct iocb into = request(IOCB_CMD_PWRITE, fd, blocks, BLOCK, BLOCK);
    CHECK(finish_one(context, &into) == BLOCK);
    CHECK(memcmp(shared + BLOCK, blocks, BLOCK) == 0);
    printf("mapped %016llx %016llx\n", (unsigned long long)checksum(shared, 2 * BLOCK),
           (unsigned long long)checksum(private, 2 * BLOCK));
}

static volatile int handled;

static void on_alarm(int signal) {
    (void)signal;
    handled++;
}

static void signals(aio_context_t context) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct io_event done;
    alarm(1);
    CHECK(io_getevents(context, 1, 1, &done, NULL) == -1 && errno == EINTR && handled == 1);
    /* The mask lets the signal in while the call waits. */
    sigset_t alarms, none;
    sigemptyset(&alarms);
    sigemptyset(&none);
    sigaddset(&alarms, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &alarms, NULL) == 0);
    CHECK(raise(SIGALRM) == 0 && handled == 1);
    struct {
        const sigset_t *mask;
        size_t size;
    } with = {&none, 8};
    CHECK(syscall(SYS_io_pgetevents, context, 1, 1, &done, NULL, &with) == -1 && errno == EINTR);
    CHECK(handled == 2);
    CHECK(sigprocmask(SIG_UNBLOCK, &alarms, NULL) == 0);
}

/* To standard output, which may be a file or a pipe. */
static void output(aio_context_t context) {
    fflush(stdout);
    long end = lseek(1, 0, SEEK_END);
    struct iocb text = request(IOCB_CMD_PWRITE, 1, "by a request\n", 13, end < 0 ? 0 : end);
    struct iovec parts[2] = {{"by ", 3}, {"vectors\n", 8}};
    struct iocb vector = request(IOCB_CMD_PWRITEV, 1, parts, 2, end < 0 ? 0 : end + 13);
    CHECK(finish_one(context, &text) == 13);
    CHECK(finish_one(context, &vector) == 11);
    lseek(1, 0, SEEK_END);
}

int main(void) {
    uint64_t seed = fresh_seed();
    blocks = mmap(NULL, BLOCKS * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(blocks != MAP_FAILED);
    aio_context_t context = 0, second = 0;
    CHECK(io_setup(16, &context) == 0 && context != 0);
    CHECK(io_setup(1, &second) == 0 && second != context);
    int flags[] = {0, O_DIRECT};
    for (int i = 0; i < 2; i++) {
        int fd = temporary_file(flags[i]);
        writes_and_reads(i ? second : context, fd, &seed);
        vectors(context, fd, &seed);
        with_eventfd(context, fd);
        errors(context, fd);
        mapped(context, fd, &seed);
        close(fd);
    }
    output(context);
    polls(context);
    signals(context);
    CHECK(io_destroy(second) == 0);
    CHECK(io_destroy(second) == -1 && errno == EINVAL);
    CHECK(io_destroy(context) == 0);
    return 0;
}

// guest: args=first
/* Linux AIO and processes: contexts are not inherited by fork, exec ends them, a process may end with a request under way, children
 * have contexts of their own, and a child that shares the memory shares the contexts. */
#include "aio.h"
#include "guest.h"
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>

static int file;
static unsigned char buffer[4096];

static aio_context_t fresh_context(void) {
    aio_context_t context = 0;
    CHECK(io_setup(8, &context) == 0);
    return context;
}

static uint64_t write_and_read(aio_context_t context, unsigned char *into, long offset) {
    uint64_t seed = fresh_seed();
    fill_random(buffer, sizeof buffer, &seed);
    struct iocb out = request(IOCB_CMD_PWRITE, file, buffer, sizeof buffer, offset);
    CHECK(finish_one(context, &out) == sizeof buffer);
    struct iocb in = request(IOCB_CMD_PREAD, file, into, sizeof buffer, offset);
    CHECK(finish_one(context, &in) == sizeof buffer);
    CHECK(memcmp(into, buffer, sizeof buffer) == 0);
    return checksum(into, sizeof buffer);
}

static int shares(void *arg) {
    CHECK(write_and_read(*(aio_context_t *)arg, buffer, 0) != 0);
    return 5;
}

int main(int argc, char **argv) {
    char path[] = "aio-XXXXXX";
    file = mkstemp(path);
    CHECK(file >= 0 && unlink(path) == 0);
    int is_second = argc > 1 && strcmp(argv[1], "second") == 0;
    /* The context of before the exec is gone. */
    CHECK(!is_second || (io_destroy(strtoul(argv[2], NULL, 16)) == -1 && errno == EINVAL));
    aio_context_t context = fresh_context();
    unsigned char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    if (is_second) {
        printf("second %016llx\n", (unsigned long long)write_and_read(context, shared, 0));
        return 0;
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct io_event done;
        CHECK(io_getevents(context, 0, 1, &done, NULL) == -1 && errno == EINVAL);
        CHECK(io_destroy(context) == -1 && errno == EINVAL);
        aio_context_t own = fresh_context();
        write_and_read(own, shared + 4096, 4096);
        /* Ends with a request under way. */
        int ends[2];
        CHECK(pipe(ends) == 0);
        struct iocb polled = request(IOCB_CMD_POLL, ends[0], (void *)POLLIN, 0, 0);
        submit_one(own, &polled);
        _exit(7);
    }
    uint64_t sum = write_and_read(context, shared, 0);
    expect_exit(child, 7);
    printf("parent %016llx child %016llx\n", (unsigned long long)sum,
           (unsigned long long)checksum(shared + 4096, 4096));
    char *stack = malloc(65536);
    CHECK(stack != NULL);
    child = clone(shares, stack + 65536, CLONE_VM | SIGCHLD, &context);
    CHECK(child > 0);
    expect_exit(child, 5);
    printf("shared %016llx\n", (unsigned long long)checksum(buffer, sizeof buffer));
    fflush(stdout);
    char name[32];
    snprintf(name, sizeof name, "%lx", context);
    execl("/proc/self/exe", "aio_processes", "second", name, NULL);
    CHECK(0);
}

/* Linux AIO with threads: some submit, others wait for completions of the same context, one waits for an eventfd; pipes connect
 * two of them; a context is destroyed while a thread waits for it. */
#include "aio.h"
#include "guest.h"
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

enum { SUBMITTERS = 3, ROUNDS = 8, SIZE = 2048 };

static aio_context_t context;
static int file, ends[2], event;
static unsigned char buffers[SUBMITTERS][SIZE];
static struct iocb requests[SUBMITTERS];
static volatile int reaped[SUBMITTERS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *submit(void *arg) {
    int n = (int)(intptr_t)arg;
    uint64_t seed = fresh_seed();
    for (int i = 0; i < ROUNDS; i++) {
        fill_random(buffers[n], SIZE, &seed);
        uint64_t sum = checksum(buffers[n], SIZE);
        for (int command = IOCB_CMD_PWRITE;; command = IOCB_CMD_PREAD) {
            requests[n] = request(command, file, buffers[n], SIZE, n * SIZE);
            requests[n].aio_flags = IOCB_FLAG_RESFD;
            requests[n].aio_resfd = (uint32_t)event;
            submit_one(context, &requests[n]);
            pthread_mutex_lock(&lock);
            while (!reaped[n]) {
                pthread_cond_wait(&changed, &lock);
            }
            reaped[n] = 0;
            pthread_mutex_unlock(&lock);
            if (command == IOCB_CMD_PREAD) {
                break;
            }
            memset(buffers[n], 0, SIZE);
        }
        CHECK(checksum(buffers[n], SIZE) == sum);
    }
    return NULL;
}

static void *reap(void *arg) {
    struct iocb *quit = arg;
    for (;;) {
        struct io_event done[2];
        long n = io_getevents(context, 1, 2, done, NULL);
        CHECK(n > 0);
        for (long i = 0; i < n; i++) {
            if (done[i].obj == (uintptr_t)quit) {
                return NULL;
            }
            int of = (int)((struct iocb *)done[i].obj - requests);
            CHECK(of >= 0 && of < SUBMITTERS && done[i].res == SIZE);
            pthread_mutex_lock(&lock);
            reaped[of] = 1;
            pthread_cond_broadcast(&changed);
            pthread_mutex_unlock(&lock);
        }
    }
}

static void *count_events(void *arg) {
    uint64_t *total = arg, count;
    while (*total < 2 * SUBMITTERS * ROUNDS) {
        CHECK(read(event, &count, sizeof count) == sizeof count);
        *total += count;
    }
    return NULL;
}

/* Reads from the pipe by AIO, which waits in io_submit until the main thread has written. */
static void *read_pipe(void *arg) {
    aio_context_t own = 0;
    char *text = arg;
    CHECK(io_setup(2, &own) == 0);
    for (int i = 0; i < 4; i++) {
        struct iocb from = request(IOCB_CMD_PREAD, ends[0], text + i, 1, 0);
        CHECK(finish_one(own, &from) == 1);
    }
    CHECK(io_destroy(own) == 0);
    return NULL;
}

static void *wait_in_vain(void *arg) {
    aio_context_t of = *(aio_context_t *)arg;
    struct io_event done;
    CHECK(io_getevents(of, 1, 1, &done, NULL) == -1 && errno == EINVAL);
    return NULL;
}

int main(void) {
    char path[] = "aio-XXXXXX", text[5] = "";
    file = mkstemp(path);
    CHECK(file >= 0 && unlink(path) == 0 && pipe(ends) == 0);
    event = eventfd(0, 0);
    CHECK(event >= 0 && io_setup(32, &context) == 0);
    pthread_t submitters[SUBMITTERS], reaper, counter, reader, waiter;
    uint64_t total = 0;
    struct iocb quit = request(IOCB_CMD_FSYNC, file, NULL, 0, 0);
    CHECK(pthread_create(&reaper, NULL, reap, &quit) == 0);
    CHECK(pthread_create(&counter, NULL, count_events, &total) == 0);
    CHECK(pthread_create(&reader, NULL, read_pipe, text) == 0);
    for (intptr_t n = 0; n < SUBMITTERS; n++) {
        CHECK(pthread_create(&submitters[n], NULL, submit, (void *)n) == 0);
    }
    for (int i = 0; i < 4; i++) {
        sleep_ms(3);
        CHECK(write(ends[1], &"pipe"[i], 1) == 1);
    }
    pthread_join(reader, NULL);
    CHECK(strcmp(text, "pipe") == 0);
    for (int n = 0; n < SUBMITTERS; n++) {
        pthread_join(submitters[n], NULL);
    }
    pthread_join(counter, NULL);
    submit_one(context, &quit);
    pthread_join(reaper, NULL);
    /* The context goes while a thread waits, and a poll is under way. */
    struct iocb polled = request(IOCB_CMD_POLL, ends[0], (void *)POLLIN, 0, 0);
    submit_one(context, &polled);
    aio_context_t waited_for = 0;
    CHECK(io_setup(4, &waited_for) == 0);
    CHECK(pthread_create(&waiter, NULL, wait_in_vain, &waited_for) == 0);
    sleep_ms(20);
    CHECK(io_destroy(waited_for) == 0);
    pthread_join(waiter, NULL);
    CHECK(io_destroy(context) == 0);
    printf("%016llx\n", (unsigned long long)checksum(buffers, sizeof buffers));
    return 0;
}

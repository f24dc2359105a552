/* Programs that read so much that the recorder gives them a ring of buffers. In the middle of that they
 * start threads, fork and vfork, and execute themselves. The output depends on the data that was read. */
#include "guest.h"
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>

enum { CHUNK = 48 << 10, CHUNKS = 40 };

static char buffers[2][CHUNK];

/* Reads this number of chunks of random bytes; an interval ends after every third. */
static uint64_t much(char *buffer, int chunks) {
    uint64_t sum = 0;
    int fd = open("/dev/urandom", O_RDONLY);
    CHECK(fd >= 0);
    for (int n = 0; n < chunks; n++) {
        CHECK(read(fd, buffer, CHUNK) == CHUNK);
        for (int i = 0; i < CHUNK; i += 8) {
            uint64_t word;
            memcpy(&word, buffer + i, sizeof word);
            sum = sum * 31 + word;
        }
        if (n % 3 == 2) {
            sched_yield();
        }
    }
    close(fd);
    return sum;
}

static void *thread(void *arg) {
    (void)arg;
    printf("thread: %016" PRIx64 "\n", much(buffers[1], CHUNKS));
    return NULL;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("parent: %016" PRIx64 "\n", much(buffers[0], CHUNKS));
    if (argc > 1) {
        return 0;
    }
    /* The fork continues with a buffer of its own, and later gets a ring, too. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        printf("child: %016" PRIx64 "\n", much(buffers[0], CHUNKS));
        fflush(stdout);
        _exit(3);
    }
    printf("beside it: %016" PRIx64 "\n", much(buffers[0], 5));
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
    pthread_t other;
    CHECK(pthread_create(&other, NULL, thread, NULL) == 0);
    uint64_t sum = much(buffers[0], CHUNKS);
    CHECK(pthread_join(other, NULL) == 0);
    printf("beside the thread: %016" PRIx64 "\n", sum);
    /* The child has our memory, and our ring. */
    child = vfork();
    if (child == 0) {
        execl("/proc/self/exe", argv[0], "again", (char *)NULL);
        _exit(4);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    printf("after it: %016" PRIx64 "\n", much(buffers[0], 5));
    return 0;
}

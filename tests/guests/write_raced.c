/* Data that changes while it is written: a writer blocks on a full pipe or socket, and another thread
 * changes the writer's buffer. It is unknown which bytes the kernel has copied; a replay must not
 * report that as a divergence. */
#include "guest.h"
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { BYTES = 300000 };
static unsigned char buffer[BYTES];
static struct iovec pieces[3];
static volatile int writing, done;

static void *change(void *seed) {
    uint64_t random = *(uint64_t *)seed;
    while (!done) {
        for (int i = 0; i < 50; i++) {
            buffer[next_random(&random) % BYTES] ^= 0x55;
        }
        buffer[0]++;
        buffer[BYTES - 1]++;
        usleep(300);
    }
    return NULL;
}

static void *drain(void *arg) {
    int fd = *(int *)arg;
    static unsigned char got[20000];
    uint64_t sum = 0, all = 0;
    ssize_t n;
    usleep(2000);
    while ((n = read(fd, got, sizeof got)) > 0) {
        all += (uint64_t)n;
        sum += checksum(got, (size_t)n);
        usleep(200);
    }
    printf("%llu bytes, %016llx\n", (unsigned long long)all, (unsigned long long)sum);
    return NULL;
}

static void transfer(int how) {
    int ends[2];
    CHECK((how == 0 ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) == 0);
    uint64_t seed = fresh_seed();
    pthread_t reader, racer;
    done = 0;
    CHECK(pthread_create(&reader, NULL, drain, &ends[0]) == 0);
    CHECK(pthread_create(&racer, NULL, change, &seed) == 0);
    for (int round = 0; round < 3; round++) {
        ssize_t n;
        if (round == 0) {
            n = write(ends[1], buffer, BYTES);
        } else if (round == 1 || how == 0) {
            for (int i = 0; i < 3; i++) {
                pieces[i] = (struct iovec){buffer + i * (BYTES / 3), BYTES / 3};
            }
            n = writev(ends[1], pieces, 3);
        } else {
            struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 3};
            n = sendmsg(ends[1], &message, 0);
        }
        CHECK(n > 0);
    }
    done = 1;
    CHECK(pthread_join(racer, NULL) == 0);
    close(ends[1]);
    CHECK(pthread_join(reader, NULL) == 0);
    close(ends[0]);
    printf("%016llx\n", (unsigned long long)checksum(buffer, BYTES));
}

int main(void) {
    transfer(0);
    transfer(1);
    return 0;
}

/* Waiting calls whose buffers are much larger than the data, and larger than the mapped memory. Until a
 * call returns, no part of the data is in the caller's memory, whatever other tasks do meanwhile. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define CLAIMED (50ul << 20)
#define MAPPED (2ul << 20)
#define DATA (768ul << 10)

static void feed(int fd) {
    uint64_t state = fresh_seed();
    char data[32 << 10];
    for (size_t done = 0; done < DATA; done += sizeof data) {
        fill_random(data, sizeof data, &state);
        write_all(fd, data, sizeof data);
        getppid();
        close(open("/dev/null", O_RDONLY));
    }
    _exit(0);
}

static ssize_t take(int kind, int fd, char *at, size_t room) {
    struct iovec parts[2] = {{at, 1000}, {at + 1000, room - 1000}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    switch (kind) {
    case 0:
    case 1:
        return read(fd, at, room);
    case 2:
        return recv(fd, at, room, 0);
    case 3:
        return recv(fd, at, room, MSG_WAITALL);
    case 4:
        return readv(fd, parts, 2);
    default:
        return recvmsg(fd, &message, 0);
    }
}

int main(void) {
    for (int kind = 0; kind < 6; kind++) {
        int ends[2];
        CHECK((kind == 0 ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) == 0);
        char *area = mmap(NULL, CLAIMED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(area != MAP_FAILED && mprotect(area, MAPPED, PROT_READ | PROT_WRITE) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            close(ends[0]);
            feed(ends[1]);
        }
        close(ends[1]);
        size_t got = 0;
        ssize_t n;
        while ((n = take(kind, ends[0], area + got, CLAIMED - got)) > 0) {
            got += (size_t)n;
        }
        CHECK(n == 0 && got == DATA);
        close(ends[0]);
        expect_exit(child, 0);
        printf("%d: %016llx\n", kind, (unsigned long long)checksum(area, got));
        munmap(area, CLAIMED);
    }
    return 0;
}

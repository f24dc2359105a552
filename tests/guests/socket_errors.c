/* Errors that wait at a socket are reported once, by whichever call comes first; a message that cannot be stored is lost. */
#define _GNU_SOURCE
#include "guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

static char *volatile nowhere = (char *)8;

enum { READ, READV, RECV, RECVMSG, WRITE, OPTION, WAYS };

/* Makes a call that gets a byte (or tells the error); returns its result, or the error as a negative number. */
static int ask(int fd, int way) {
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int error = 0;
    socklen_t len = sizeof error;
    long got = 0;
    switch (way) {
    case READ:
        got = read(fd, &byte, 1);
        break;
    case READV:
        got = readv(fd, &part, 1);
        break;
    case RECV:
        got = recv(fd, &byte, 1, 0);
        break;
    case RECVMSG:
        got = recvmsg(fd, &message, 0);
        break;
    case WRITE:
        got = send(fd, &byte, 1, MSG_NOSIGNAL);
        break;
    default:
        CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0);
        return -error;
    }
    return got < 0 ? -errno : (int)got;
}

static int bound(int type, struct sockaddr_in *address) {
    socklen_t len = sizeof *address;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, sizeof *address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &len) == 0);
    return fd;
}

static void await(int fd) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    CHECK(poll(&one, 1, 10000) == 1);
}

/* The peer resets the connection. */
static void reset(int way, int flags) {
    struct sockaddr_in address;
    int listening = bound(SOCK_STREAM, &address);
    CHECK(listen(listening, 1) == 0);
    int ours = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(ours >= 0 && connect(ours, (struct sockaddr *)&address, sizeof address) == 0);
    int theirs = accept(listening, NULL, NULL);
    struct linger at_once = {1, 0};
    CHECK(theirs >= 0 && setsockopt(theirs, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    CHECK(close(theirs) == 0);
    CHECK(fcntl(ours, F_SETFL, flags) == 0);
    await(ours);
    CHECK(ask(ours, way) == -ECONNRESET);
    CHECK(ask(ours, OPTION) == 0);
    CHECK(ask(ours, READ) == 0 && ask(ours, WRITE) == -EPIPE);
    CHECK(close(ours) == 0 && close(listening) == 0);
}

/* Nobody listens at the port. */
static void refuse(int way, int flags) {
    struct sockaddr_in address;
    CHECK(close(bound(SOCK_DGRAM, &address)) == 0);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(fcntl(fd, F_SETFL, flags) == 0);
    CHECK(ask(fd, WRITE) == 1);
    await(fd);
    CHECK(ask(fd, way) == -ECONNREFUSED);
    CHECK(ask(fd, OPTION) == 0);
    CHECK(close(fd) == 0);
}

/* A message that cannot be stored. */
static void lose(int way) {
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    write_all(pair[0], "first", 5);
    write_all(pair[0], "second!", 7);
    char buffer[16];
    struct iovec parts[2] = {{nowhere, 3}, {buffer, 2}};
    long got = way == READ ? read(pair[1], nowhere, 5) : readv(pair[1], parts, 2);
    CHECK(got == -1 && errno == EFAULT);
    got = way == READ ? read(pair[1], buffer, sizeof buffer)
                      : readv(pair[1], (struct iovec[]){{buffer, 3}, {buffer + 3, 13}}, 2);
    CHECK(got == 7 && memcmp(buffer, "second!", 7) == 0);
    CHECK(close(pair[0]) == 0 && close(pair[1]) == 0);
}

int main(void) {
    /* Often enough for each place to be sent to the library. */
    for (int round = 0; round < 4; round++) {
        for (int way = 0; way < WAYS; way++) {
            for (int n = 0; n < 2; n++) {
                reset(way, n * O_NONBLOCK);
                refuse(way, n * O_NONBLOCK);
            }
        }
        lose(READ);
        lose(READV);
    }
    puts("each error once");
    return 0;
}

/* TCP on the loopback: a server with blocking accept, a megabyte both ways, addresses and options. */
#include "guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum { SIZE = 1 << 20 };
static unsigned char data[SIZE], back[SIZE];

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, peer;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(server >= 0 && bind(server, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(server, 5) == 0);
    socklen_t length = sizeof address;
    CHECK(getsockname(server, (struct sockaddr *)&address, &length) == 0 && length == sizeof address);
    uint64_t seed = 7;
    fill_random(data, SIZE, &seed);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
        CHECK(fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
        CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
        pid_t writer = fork();
        CHECK(writer >= 0);
        if (writer == 0) {
            write_all(fd, data, SIZE);
            CHECK(shutdown(fd, SHUT_WR) == 0);
            _exit(0);
        }
        size_t got = 0;
        ssize_t n;
        while ((n = recv(fd, back + got, SIZE - got, 0)) > 0) {
            got += (size_t)n;
        }
        CHECK(got == SIZE && memcmp(data, back, SIZE) == 0);
        expect_exit(writer, 0);
        _exit(0);
    }
    length = sizeof peer;
    int connection = accept(server, (struct sockaddr *)&peer, &length);
    CHECK(connection >= 0 && peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    struct sockaddr_in again;
    length = sizeof again;
    CHECK(getpeername(connection, (struct sockaddr *)&again, &length) == 0 && again.sin_port == peer.sin_port);
    static unsigned char block[30000];
    uint64_t total = 0;
    ssize_t n;
    while ((n = recv(connection, block, sizeof block, 0)) > 0) {
        total += (uint64_t)n;
        for (ssize_t at = 0; at < n;) {
            ssize_t sent = send(connection, block + at, (size_t)(n - at), MSG_NOSIGNAL);
            CHECK(sent > 0);
            at += sent;
        }
    }
    CHECK(n == 0 && total == SIZE);
    close(connection);
    expect_exit(child, 0);

    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(b, (struct sockaddr *)&to, sizeof to) == 0);
    length = sizeof to;
    CHECK(getsockname(b, (struct sockaddr *)&to, &length) == 0);
    CHECK(sendto(a, "datagram", 8, 0, (struct sockaddr *)&to, sizeof to) == 8);
    length = sizeof again;
    CHECK(recvfrom(b, block, sizeof block, 0, (struct sockaddr *)&again, &length) == 8);
    struct iovec parts[2] = {{block, 3}, {block + 100, 100}};
    struct mmsghdr many[2] = {{.msg_hdr = {.msg_iov = parts, .msg_iovlen = 2}}, {.msg_hdr = {.msg_iov = parts, .msg_iovlen = 1}}};
    CHECK(sendto(a, "several", 7, 0, (struct sockaddr *)&to, sizeof to) == 7);
    CHECK(recvmmsg(b, many, 2, MSG_WAITFORONE, NULL) == 1 && many[0].msg_len == 7);
    CHECK(memcmp(block, "sev", 3) == 0 && memcmp(block + 100, "eral", 4) == 0);
    printf("ports %d %d %d\n", ntohs(address.sin_port), ntohs(peer.sin_port), ntohs(again.sin_port));
    return 0;
}

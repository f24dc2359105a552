/* Frozen forks are invisible: the other side of a socket sees the close at once, and a port is free again. */
#include "guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int listener(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    int on = 1;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(bind(fd, (struct sockaddr *)address, sizeof *address) == 0);
    CHECK(listen(fd, 5) == 0);
    return fd;
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    for (int round = 0; round < 5; round++) {
        int pair[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            close(pair[0]);
            write_all(pair[1], "bye", 3);
            _exit(0);
        }
        close(pair[1]);
        char text[8];
        read_all(pair[0], text, 3);
        CHECK(read(pair[0], text, 1) == 0);
        expect_exit(child, 0);
        CHECK(send(pair[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
        close(pair[0]);
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int round = 0; round < 5; round++) {
        int server = listener(&address); /* from the second round on, the same port again */
        socklen_t length = sizeof address;
        CHECK(getsockname(server, (struct sockaddr *)&address, &length) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            close(server);
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
            write_all(fd, "tcp", 3);
            _exit(0);
        }
        int connection = accept(server, NULL, NULL);
        CHECK(connection >= 0);
        char text[8];
        read_all(connection, text, 3);
        CHECK(read(connection, text, 1) == 0);
        expect_exit(child, 0);
        close(connection);
        close(server);
        int late = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(late, (struct sockaddr *)&address, sizeof address) == -1 && errno == ECONNREFUSED);
        close(late);
    }
    printf("port %d\n", ntohs(address.sin_port));
    return 0;
}

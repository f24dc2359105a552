/* Unix sockets: pairs, datagrams, named and abstract, credentials, and descriptors sent through them. */
#include "guest.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static void send_fd(int socket, int fd) {
    char byte = 'f', control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    CHECK(sendmsg(socket, &message, 0) == 1);
}

static int receive_fd(int socket) {
    char byte = 0, control[CMSG_SPACE(64)];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    CHECK(recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1 && byte == 'f');
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK(header != NULL && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)));
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

int main(void) {
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(pair[0]);
        int fd = receive_fd(pair[1]);
        CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
        CHECK(dprintf(fd, "written by %d", getpid()) > 0);
        int ends[2];
        CHECK(pipe(ends) == 0);
        write_all(ends[1], "piped", 5);
        send_fd(pair[1], ends[0]);
        _exit(0);
    }
    close(pair[1]);
    int file = open("passed", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0 && unlink("passed") == 0);
    send_fd(pair[0], file);
    int pipe_end = receive_fd(pair[0]);
    char text[100] = "";
    read_all(pipe_end, text, 5);
    CHECK(memcmp(text, "piped", 5) == 0);
    expect_exit(child, 0);
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    CHECK(n > 11);
    text[n] = 0;
    puts(text);
    fflush(stdout);

    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    CHECK(send(pair[0], "first", 5, 0) == 5 && send(pair[0], "", 0, 0) == 0 && send(pair[0], "third!", 6, 0) == 6);
    CHECK(recv(pair[1], text, sizeof text, 0) == 5 && recv(pair[1], text, sizeof text, 0) == 0);
    CHECK(recv(pair[1], text, 3, MSG_PEEK | MSG_TRUNC) == 6 && recv(pair[1], text, 3, 0) == 3);
    CHECK(recv(pair[1], text, 3, MSG_DONTWAIT) == -1 && errno == EAGAIN);

    for (int abstract = 0; abstract < 2; abstract++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        socklen_t length;
        if (abstract) {
            int written = snprintf(address.sun_path + 1, 64, "guest-%d-%d", getpid(), abstract);
            length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)written);
        } else {
            strcpy(address.sun_path, "socket");
            length = sizeof address;
        }
        int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(server >= 0 && bind(server, (struct sockaddr *)&address, length) == 0 && listen(server, 3) == 0);
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            int client = socket(AF_UNIX, SOCK_STREAM, 0);
            CHECK(client >= 0 && connect(client, (struct sockaddr *)&address, length) == 0);
            write_all(client, "hello", 5);
            read_all(client, text, 5);
            CHECK(memcmp(text, "again", 5) == 0);
            _exit(0);
        }
        struct sockaddr_un peer;
        socklen_t peer_length = sizeof peer;
        int connection = accept4(server, (struct sockaddr *)&peer, &peer_length, SOCK_CLOEXEC);
        CHECK(connection >= 0 && peer_length == sizeof(sa_family_t));
        struct ucred who;
        socklen_t who_length = sizeof who;
        CHECK(getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &who, &who_length) == 0 && who.pid == child);
        read_all(connection, text, 5);
        write_all(connection, "again", 5);
        expect_exit(child, 0);
        close(connection);
        close(server);
    }
    CHECK(unlink("socket") == 0);
    return 0;
}

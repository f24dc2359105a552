// guest: heavy
/* A signal during calls that wait for input or output, with and without SA_RESTART. */
#include "interrupt.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static int ends[2], full[2], pair[2], server, epoll, counter;
static struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
static char bytes[65536];

static long do_read(void) { return read(ends[0], bytes, 1); }
static long do_readv(void) {
    struct iovec parts[2] = {{bytes, 1}, {bytes + 10, 5}};
    return readv(ends[0], parts, 2);
}
static void give(void) { CHECK(write(ends[1], "x", 1) == 1); }

static long do_write(void) { return write(full[1], "y", 1); }
static void drain(void) { CHECK(read(full[0], bytes, sizeof bytes) > 4096); }
static void fill(void) {
    CHECK(fcntl(full[1], F_SETFL, O_NONBLOCK) == 0);
    while (write(full[1], bytes, 4096) > 0) {
    }
    CHECK(errno == EAGAIN && fcntl(full[1], F_SETFL, 0) == 0);
}

static long do_accept(void) {
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;
    int fd = accept(server, (struct sockaddr *)&peer, &length);
    return fd < 0 ? fd : close(fd);
}
static void do_connect(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && close(fd) == 0);
}
/* The queue of the server is full: connect waits for an accept. */
static int waiting[2];
static long connect_full(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    long result = connect(fd, (struct sockaddr *)&address, sizeof address);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}
static void do_accept_one(void) {
    int fd = accept(server, NULL, NULL);
    CHECK(fd >= 0 && close(fd) == 0);
}

static long do_recv(void) { return recv(pair[0], bytes, 10, 0); }
static long do_recvfrom(void) {
    struct sockaddr_un from;
    socklen_t length = sizeof from;
    return recvfrom(pair[0], bytes, 10, 0, (struct sockaddr *)&from, &length);
}
static long do_recvmsg(void) {
    struct iovec part = {bytes, 10};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return recvmsg(pair[0], &message, 0);
}
static long do_recvmmsg(void) {
    struct iovec part = {bytes, 10};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    return recvmmsg(pair[0], &message, 1, 0, NULL);
}
static void do_send(void) { CHECK(send(pair[1], "z", 1, 0) == 1); }

static long do_poll(void) {
    struct pollfd one = {ends[0], POLLIN, 0};
    return poll(&one, 1, 5000);
}
static long do_ppoll(void) {
    struct pollfd one = {ends[0], POLLIN, 0};
    struct timespec limit = {5, 0};
    sigset_t none;
    sigemptyset(&none);
    return ppoll(&one, 1, &limit, &none);
}
static long do_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval limit = {5, 0};
    return select(ends[0] + 1, &set, NULL, NULL, &limit);
}
static long do_pselect(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    sigset_t none;
    sigemptyset(&none);
    return pselect(ends[0] + 1, &set, NULL, NULL, NULL, &none);
}
static long do_epoll(void) {
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, 5000);
}
static long do_epoll_pwait(void) {
    struct epoll_event event;
    sigset_t none;
    sigemptyset(&none);
    return epoll_pwait(epoll, &event, 1, -1, &none);
}

static long do_counter(void) {
    uint64_t value;
    return read(counter, &value, sizeof value);
}
static void count(void) { CHECK(eventfd_write(counter, 3) == 0); }

static long do_fifo(void) {
    int fd = open("fifo", O_RDONLY);
    return fd < 0 ? fd : close(fd);
}
static int other_end = -1;
static void open_other_end(void) {
    other_end = open("fifo", O_RDWR | O_NONBLOCK);
    CHECK(other_end >= 0);
}

int main(void) {
    start_sender();
    CHECK(pipe(ends) == 0 && pipe(full) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    interrupted("read", 1, do_read, give);
    interrupted("readv", 1, do_readv, give);
    fill();
    interrupted("write", 1, do_write, drain);

    server = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(server >= 0 && bind(server, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(server, 0) == 0);
    interrupted("accept", 1, do_accept, do_connect);
    waiting[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(waiting[0], (struct sockaddr *)&address, sizeof address) == 0);
    interrupted("connect", 1, connect_full, do_accept_one);
    CHECK(unlink("socket") == 0);

    interrupted("recv", 1, do_recv, do_send);
    interrupted("recvfrom", 1, do_recvfrom, do_send);
    interrupted("recvmsg", 1, do_recvmsg, do_send);
    interrupted("recvmmsg", 1, do_recvmmsg, do_send);
    struct timeval limit = {5, 0};
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    interrupted("recv with a timeout", 0, do_recv, NULL);

    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) == 0);
    interrupted("poll", 0, do_poll, NULL);
    interrupted("ppoll", 0, do_ppoll, NULL);
    interrupted("select", 0, do_select, NULL);
    interrupted("pselect", 0, do_pselect, NULL);
    interrupted("epoll_wait", 0, do_epoll, NULL);
    interrupted("epoll_pwait", 0, do_epoll_pwait, NULL);

    counter = eventfd(0, 0);
    interrupted("eventfd", 1, do_counter, count);
    CHECK(mkfifo("fifo", 0600) == 0);
    interrupted("open of a fifo", 1, do_fifo, open_other_end);
    CHECK(unlink("fifo") == 0);
    stop_sender();
    printf("%d\n", getpid());
    return 0;
}

/* The socket calls that the library makes itself, each several times at one site: vectors, names,
 * control messages with descriptors, options, accepting; short buffers, bad addresses, errors; and
 * signals that arrive meanwhile. */
#include "guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) { (void)signal; alarms++; }

/* One site for each call. */
static __attribute__((noinline)) long raw(long n, long a, long b, long c, long d, long e, long f) {
    return syscall(n, a, b, c, d, e, f);
}
#define CALL(n, a, b, c, d, e, f) raw(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* Passes an open descriptor and a text, which is longer in each round. */
static void descriptors(int round) {
    int pair[2], pipes[2];
    CHECK(CALL(SYS_socketpair, AF_UNIX, round & 1 ? SOCK_STREAM : SOCK_DGRAM, 0, pair, 0, 0) == 0);
    /* A failing call has still written the numbers of descriptors, which are closed again. */
    int none[2] = {-1, -1};
    CHECK(CALL(SYS_socketpair, AF_INET, SOCK_STREAM, 0, none, 0, 0) == -1 && errno == EOPNOTSUPP);
    printf("%d %d\n", none[0], none[1]);
    CHECK(CALL(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 8, 0, 0) == -1 && errno == EFAULT);
    CHECK(pipe(pipes) == 0);
    uint64_t seed = fresh_seed();
    char text[300], back[300];
    fill_random(text, sizeof text, &seed);
    struct iovec out[3] = {{text, 10}, {text + 10, (size_t)round * 10}, {text + 10 + round * 10, 5}};
    size_t sent = 15 + (size_t)round * 10;
    union { char bytes[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {.msg_iov = out, .msg_iovlen = 3, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(2 * sizeof(int))};
    memcpy(CMSG_DATA(head), pipes, sizeof pipes);
    CHECK(CALL(SYS_sendmsg, pair[0], &message, 0, 0, 0, 0) == (long)sent);

    memset(back, 0, sizeof back);
    memset(&control, 0, sizeof control);
    struct sockaddr_un name;
    struct iovec in[2] = {{back, 7}, {back + 7, sizeof back - 7}};
    /* Every third has no room for the descriptors. */
    size_t room = round % 3 == 2 ? 0 : sizeof control;
    message = (struct msghdr){.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = in, .msg_iovlen = 2,
                              .msg_control = room ? &control : NULL, .msg_controllen = room};
    CHECK(CALL(SYS_recvmsg, pair[1], &message, MSG_CMSG_CLOEXEC, 0, 0, 0) == (long)sent);
    CHECK(memcmp(text, back, sent) == 0);
    CHECK(message.msg_namelen == 0);
    if (room == 0) {
        CHECK(message.msg_flags & MSG_CTRUNC);
    } else {
        int got[2];
        head = CMSG_FIRSTHDR(&message);
        CHECK(head != NULL && head->cmsg_type == SCM_RIGHTS && message.msg_controllen >= CMSG_LEN(sizeof got));
        memcpy(got, CMSG_DATA(head), sizeof got);
        CHECK(write(got[1], "through", 7) == 7 && read(pipes[0], back, 7) == 7 && memcmp(back, "through", 7) == 0);
        close(got[0]);
        close(got[1]);
    }
    /* There is no message, and the call must not wait. */
    message.msg_control = NULL;
    message.msg_controllen = 0;
    CHECK(CALL(SYS_recvmsg, pair[1], &message, MSG_DONTWAIT, 0, 0, 0) == -1 && errno == EAGAIN);
    /* If the buffer cannot be written, the message stays in the socket. */
    CHECK(CALL(SYS_sendto, pair[0], "again", 5, 0, 0, 0) == 5);
    struct iovec nowhere = {(void *)8, 5};
    struct msghdr bad = {.msg_iov = &nowhere, .msg_iovlen = 1};
    if (round & 1) {
        CHECK(CALL(SYS_recvmsg, pair[1], &bad, 0, 0, 0, 0) == -1 && errno == EFAULT);
        CHECK(CALL(SYS_recvfrom, pair[1], 8, 5, 0, 0, 0) == -1 && errno == EFAULT);
    }
    CHECK(CALL(SYS_recvfrom, pair[1], back, 5, 0, 0, 0) == 5 && memcmp(back, "again", 5) == 0);
    CHECK(CALL(SYS_recvmsg, pair[1], 8, MSG_DONTWAIT, 0, 0, 0) == -1 && errno == EFAULT);
    CHECK(CALL(SYS_sendmsg, pair[0], 8, 0, 0, 0, 0) == -1 && errno == EFAULT);
    CHECK(CALL(SYS_sendmsg, -1, &message, 0, 0, 0, 0) == -1 && errno == EBADF);
    close(pair[0]);
    close(pair[1]);
    close(pipes[0]);
    close(pipes[1]);
}

/* Datagrams with the sender's name, in buffers of all lengths. */
static void names(int round) {
    int server = socket(AF_INET, SOCK_DGRAM, 0), client = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, own = {0};
    CHECK(CALL(SYS_bind, server, &address, sizeof address, 0, 0, 0) == 0);
    CHECK(CALL(SYS_bind, client, &address, sizeof address, 0, 0, 0) == 0);
    socklen_t length = sizeof address;
    CHECK(CALL(SYS_getsockname, server, &address, &length, 0, 0, 0) == 0 && length == sizeof address);
    length = sizeof own;
    CHECK(CALL(SYS_getsockname, client, &own, &length, 0, 0, 0) == 0);
    char text[64];
    CHECK(CALL(SYS_sendto, client, "a datagram", 10, 0, &address, sizeof address) == 10);
    CHECK(CALL(SYS_sendto, client, "another one", 11, 0, &address, sizeof address) == 11);
    struct sockaddr_in from;
    memset(&from, 0xee, sizeof from);
    /* The buffer is too short for the name: the name is cut, but its length is not. */
    length = round & 1 ? 4 : sizeof from;
    CHECK(CALL(SYS_recvfrom, server, text, sizeof text, 0, &from, &length) == 10 && length == sizeof from);
    CHECK(from.sin_port == own.sin_port);
    CHECK(from.sin_addr.s_addr == (round & 1 ? 0xeeeeeeee : htonl(INADDR_LOOPBACK)));
    struct iovec part = {text, 3};
    struct msghdr message = {.msg_name = &from, .msg_namelen = round & 1 ? 2 : 64, .msg_iov = &part, .msg_iovlen = 1};
    CHECK(CALL(SYS_recvmsg, server, &message, MSG_TRUNC, 0, 0, 0) == 11);
    CHECK(message.msg_flags & MSG_TRUNC && message.msg_namelen == sizeof from);
    length = sizeof from;
    CHECK(CALL(SYS_getpeername, client, &from, &length, 0, 0, 0) == -1 && errno == ENOTCONN);
    CHECK(CALL(SYS_connect, client, &address, sizeof address, 0, 0, 0) == 0);
    CHECK(CALL(SYS_getpeername, client, &from, &length, 0, 0, 0) == 0 && from.sin_port == address.sin_port);
    printf("%d %d\n", ntohs(own.sin_port), ntohs(from.sin_port));
    close(server);
    close(client);
}

/* A connection; neither end ever waits. */
static void stream(int round) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, peer;
    socklen_t length = sizeof address;
    CHECK(CALL(SYS_bind, listener, &address, length, 0, 0, 0) == 0 && CALL(SYS_listen, listener, 5, 0, 0, 0, 0) == 0);
    CHECK(CALL(SYS_getsockname, listener, &address, &length, 0, 0, 0) == 0);
    length = sizeof peer;
    CHECK(CALL(SYS_accept4, listener, &peer, &length, SOCK_NONBLOCK, 0, 0) == -1 && errno == EAGAIN);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    long connected = CALL(SYS_connect, client, &address, sizeof address, 0, 0, 0);
    CHECK(connected == 0 || errno == EINPROGRESS);
    int server = -1;
    while (server < 0) {
        length = sizeof peer;
        server = (int)(round & 1 ? CALL(SYS_accept4, listener, &peer, &length, SOCK_NONBLOCK, 0, 0)
                                 : CALL(SYS_accept, listener, &peer, &length, 0, 0, 0));
        CHECK(server >= 0 || errno == EAGAIN);
    }
    CHECK(length == sizeof peer);
    int value = -1;
    length = sizeof value;
    CHECK(CALL(SYS_getsockopt, client, SOL_SOCKET, SO_ERROR, &value, &length, 0) == 0 && value == 0 && length == 4);
    value = 1;
    CHECK(CALL(SYS_setsockopt, client, IPPROTO_TCP, TCP_NODELAY, &value, 4, 0) == 0);
    struct tcp_info info;
    length = round & 1 ? 8 : sizeof info;
    CHECK(CALL(SYS_getsockopt, client, IPPROTO_TCP, TCP_INFO, &info, &length, 0) == 0 && info.tcpi_state == 1);
    length = 4;
    CHECK(CALL(SYS_getsockopt, client, SOL_SOCKET, 9999, &value, &length, 0) == -1 && errno == ENOPROTOOPT);
    /* A write that does not wait writes only as much as fits. */
    static char bulk[1 << 20], got[1 << 20];
    uint64_t seed = 42 + (uint64_t)round;
    fill_random(bulk, sizeof bulk, &seed);
    struct iovec parts[2] = {{bulk, 100}, {bulk + 100, sizeof bulk - 100}};
    long sent = CALL(SYS_writev, client, parts, 2, 0, 0, 0), received = 0;
    CHECK(sent > 4096);
    CHECK(fcntl(server, F_SETFL, O_NONBLOCK) == 0);
    while (received < sent) {
        long n = CALL(SYS_recvfrom, server, got + received, sizeof got - (size_t)received, 0, 0, 0);
        CHECK(n > 0 || (n < 0 && errno == EAGAIN));
        received += n > 0 ? n : 0;
    }
    CHECK(received == sent && memcmp(bulk, got, (size_t)sent) == 0);
    printf("%ld %d\n", sent, ntohs(peer.sin_port));
    close(client);
    /* The end of the stream. */
    while (CALL(SYS_recvfrom, server, got, 10, 0, 0, 0) != 0) {
    }
    close(server);
    close(listener);
}

static volatile sig_atomic_t pipes_broken;
static void on_pipe(int signal) { (void)signal; pipes_broken++; }

static void broken(void) {
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    close(pair[1]);
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int before = pipes_broken;
    CHECK(CALL(SYS_sendmsg, pair[0], &message, 0, 0, 0, 0) == -1 && errno == EPIPE && pipes_broken == before + 1);
    CHECK(CALL(SYS_writev, pair[0], &part, 1, 0, 0, 0) == -1 && errno == EPIPE && pipes_broken == before + 2);
    CHECK(CALL(SYS_sendmsg, pair[0], &message, MSG_NOSIGNAL, 0, 0, 0) == -1 && pipes_broken == before + 2);
    close(pair[0]);
}

int main(void) {
    signal(SIGALRM, on_alarm);
    signal(SIGPIPE, on_pipe);
    struct itimerval every = {{0, 10000}, {0, 10000}};
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    for (int round = 0; round < 5; round++) {
        descriptors(round);
        names(round);
        stream(round);
        broken();
    }
    memset(&every, 0, sizeof every);
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    printf("%d alarms\n", (int)alarms);
    return 0;
}

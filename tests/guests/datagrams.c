/* UDP on the loopback device, sendmmsg and recvmmsg, time-outs, ancillary data, credentials, netlink. */
#include "guest.h"
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static void udp(void) {
    int server = socket(AF_INET, SOCK_DGRAM, 0), client = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    socklen_t length = sizeof address;
    CHECK(server >= 0 && client >= 0 && bind(server, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&address, &length) == 0 && address.sin_port != 0);
    CHECK(setsockopt(server, IPPROTO_IP, IP_PKTINFO, &one, sizeof one) == 0);
    CHECK(setsockopt(server, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one) == 0);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct mmsghdr messages[3];
        struct iovec parts[3];
        char texts[3][16];
        memset(messages, 0, sizeof messages);
        for (int i = 0; i < 3; i++) {
            parts[i] = (struct iovec){texts[i], (size_t)snprintf(texts[i], 16, "message %d", i) + (size_t)i};
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        CHECK(sendmmsg(client, messages, 3, 0) == 3 && messages[2].msg_len == 11);
        char answer[16];
        CHECK(recv(client, answer, sizeof answer, 0) == 5 && memcmp(answer, "thank", 5) == 0);
        _exit(0);
    }
    char buffers[4][64], control[4][256];
    struct iovec parts[4];
    struct mmsghdr messages[4];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < 4; i++) {
        parts[i] = (struct iovec){buffers[i], 10};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1, .msg_control = control[i],
                                              .msg_controllen = sizeof control[i]};
    }
    messages[0].msg_hdr.msg_name = &from;
    messages[0].msg_hdr.msg_namelen = sizeof from;
    struct pollfd poller = {server, POLLIN, 0};
    int got = 0;
    while (got < 3) {
        CHECK(poll(&poller, 1, -1) == 1);
        int n = recvmmsg(server, messages + got, (unsigned)(3 - got), got == 0 ? MSG_WAITFORONE : MSG_DONTWAIT, NULL);
        CHECK(n > 0);
        got += n;
    }
    CHECK(messages[0].msg_len == 9 && messages[1].msg_len == 10 && messages[2].msg_len == 10);
    CHECK(messages[2].msg_hdr.msg_flags & MSG_TRUNC);
    CHECK(from.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && messages[0].msg_hdr.msg_namelen == sizeof from);
    int stamps = 0, infos = 0;
    for (int i = 0; i < 3; i++) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&messages[i].msg_hdr); c; c = CMSG_NXTHDR(&messages[i].msg_hdr, c)) {
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
                struct timespec stamp;
                memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
                printf("%ld.%09ld\n", (long)stamp.tv_sec, stamp.tv_nsec);
                stamps++;
            } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
                infos++;
            }
        }
    }
    CHECK(stamps == 3 && infos == 3);
    fflush(stdout);
    CHECK(sendto(server, "thank", 5, 0, (struct sockaddr *)&from, sizeof from) == 5);
    expect_exit(child, 0);
    struct timeval limit = {0, 3000};
    CHECK(setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CHECK(recv(server, buffers[0], 10, 0) == -1 && errno == EAGAIN);
    struct timespec soon = {0, 3000000};
    int n = recvmmsg(server, messages, 4, 0, &soon);
    CHECK(n == -1 && errno == EAGAIN);
    /* An error that comes back by ICMP: nobody listens there. */
    close(server);
    CHECK(send(client, "x", 1, 0) == 1);
    CHECK(recv(client, buffers[0], 10, 0) == -1 && errno == ECONNREFUSED);
    close(client);
}

static void credentials(void) {
    int pair[2], one = 1;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct ucred me = {getpid(), getuid(), getgid()};
        char control[CMSG_SPACE(sizeof me)] = {0}, byte = 'c';
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                                 .msg_controllen = sizeof control};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_CREDENTIALS;
        header->cmsg_len = CMSG_LEN(sizeof me);
        memcpy(CMSG_DATA(header), &me, sizeof me);
        CHECK(sendmsg(pair[1], &message, 0) == 1);
        _exit(0);
    }
    struct ucred who;
    char control[CMSG_SPACE(sizeof who) + 64], byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    CHECK(recvmsg(pair[0], &message, 0) == 1);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK(header != NULL && header->cmsg_type == SCM_CREDENTIALS);
    memcpy(&who, CMSG_DATA(header), sizeof who);
    CHECK(who.pid == child && who.uid == getuid());
    expect_exit(child, 0);
}

static void netlink(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    CHECK(fd >= 0);
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    socklen_t length = sizeof address;
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &length) == 0 && address.nl_pid != 0);
    struct {
        struct nlmsghdr header;
        struct ifinfomsg info;
    } request = {.header = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_GETLINK,
                            .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = 1},
                 .info = {.ifi_family = AF_UNSPEC}};
    CHECK(send(fd, &request, sizeof request, 0) == sizeof request);
    static _Alignas(8) char answer[32768];
    int links = 0, done = 0;
    while (!done) {
        ssize_t n = recv(fd, answer, sizeof answer, 0);
        CHECK(n > 0);
        int left = (int)n;
        for (struct nlmsghdr *h = (struct nlmsghdr *)answer; NLMSG_OK(h, (unsigned)left); h = NLMSG_NEXT(h, left)) {
            links += h->nlmsg_type == RTM_NEWLINK;
            done |= h->nlmsg_type == NLMSG_DONE;
        }
    }
    CHECK(links >= 1);
    struct ifreq interface;
    memset(&interface, 0, sizeof interface);
    strcpy(interface.ifr_name, "lo");
    CHECK(ioctl(fd, SIOCGIFINDEX, &interface) == 0 && interface.ifr_ifindex >= 1);
    printf("%d links\n", links);
}

int main(void) {
    udp();
    credentials();
    netlink();
    return 0;
}

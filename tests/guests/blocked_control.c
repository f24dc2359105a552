/* A task waits in recvmsg for data with control messages while other tasks make events. Until the call
 * returns, no part of the message is in the task's memory; then all of it is. */
#include "guest.h"
#include <sys/socket.h>
#include <sys/uio.h>

int main(void) {
    uint64_t state = fresh_seed();
    for (int round = 0; round < 12; round++) {
        int ends[2], on = 1;
        CHECK(socketpair(AF_UNIX, round % 2 ? SOCK_DGRAM : SOCK_STREAM, 0, ends) == 0);
        CHECK(setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (int i = 0; i < 3; i++) {
                getppid();
                close(open("/dev/null", O_RDONLY));
            }
            char data[100];
            fill_random(data, sizeof data, &state);
            struct iovec part = {data, sizeof data};
            union {
                struct cmsghdr header;
                char room[CMSG_SPACE(sizeof(int))];
            } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
            memcpy(CMSG_DATA(&control.header), &ends[1], sizeof(int));
            struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
            if (round % 3 == 0) {
                message.msg_control = &control;
                message.msg_controllen = sizeof control;
            }
            CHECK(sendmsg(ends[1], &message, 0) == sizeof data);
            for (int i = 0; i < 3; i++) {
                getppid();
                close(open("/dev/null", O_RDONLY));
            }
            _exit(0);
        }
        char data[4096], control[256];
        memset(control, 0xee, sizeof control);
        struct iovec part = {data, sizeof data};
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        if (round % 4 == 3) {
            message.msg_controllen = 20; /* too small */
        }
        ssize_t got = recvmsg(ends[0], &message, 0);
        CHECK(got == 100);
        int count = 0;
        for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at != NULL; at = CMSG_NXTHDR(&message, at)) {
            count++;
            if (at->cmsg_type == SCM_RIGHTS) {
                close(*(int *)CMSG_DATA(at));
            }
        }
        expect_exit(child, 0);
        printf("%d: %d messages, %zu bytes, %016llx %016llx\n", round, count, (size_t)message.msg_controllen,
               (unsigned long long)checksum(data, 100), (unsigned long long)checksum(control, sizeof control));
        close(ends[0]);
        close(ends[1]);
    }
    return 0;
}

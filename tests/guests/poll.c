/* poll, ppoll, select and pselect: ready at once, after a wait for a child, and not at all. */
#include "guest.h"
#include <poll.h>
#include <sys/select.h>

int main(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct pollfd fds[2] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}};
    CHECK(poll(fds, 2, -1) == 1 && fds[0].revents == 0 && fds[1].revents == POLLOUT);
    CHECK(poll(fds, 1, 0) == 0 && poll(fds, 1, 5) == 0 && poll(NULL, 0, 2) == 0);
    struct timespec limit = {0, 3000000};
    CHECK(ppoll(fds, 1, &limit, NULL) == 0);
    struct timeval tv = {0, 3000};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    CHECK(select(ends[0] + 1, &set, NULL, NULL, &tv) == 0 && !FD_ISSET(ends[0], &set));
    CHECK(select(0, NULL, NULL, NULL, &tv) == 0);
    fflush(stdout);
    for (int i = 0; i < 8; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            sleep_ms(4);
            write_all(ends[1], "x", 1);
            _exit(0);
        }
        fds[0].revents = 0x55;
        fd_set readable, writable;
        FD_ZERO(&readable);
        FD_ZERO(&writable);
        FD_SET(ends[0], &readable);
        tv.tv_sec = 5;
        tv.tv_usec = 0;
        limit.tv_sec = 5;
        limit.tv_nsec = 0;
        switch (i % 4) {
        case 0:
            CHECK(poll(fds, 1, -1) == 1 && fds[0].revents == POLLIN);
            break;
        case 1:
            CHECK(ppoll(fds, 1, &limit, NULL) == 1 && fds[0].revents == POLLIN);
            break;
        case 2:
            CHECK(select(ends[0] + 1, &readable, &writable, NULL, &tv) == 1 && FD_ISSET(ends[0], &readable));
            printf("select left %ld us\n", (long)tv.tv_usec);
            break;
        default:
            CHECK(pselect(ends[0] + 1, &readable, NULL, NULL, &limit, NULL) == 1 && FD_ISSET(ends[0], &readable));
            break;
        }
        char byte;
        read_all(ends[0], &byte, 1);
        fflush(stdout);
        expect_exit(child, 0);
    }
    close(ends[1]);
    CHECK(poll(fds, 1, -1) == 1 && (fds[0].revents & POLLHUP));
    fds[0].fd = 999;
    CHECK(poll(fds, 1, -1) == 1 && fds[0].revents == POLLNVAL);
    return 0;
}

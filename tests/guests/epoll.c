/* epoll with pipes, an eventfd and a child that makes them ready, level- and edge-triggered. */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

int main(void) {
    int queue = epoll_create1(EPOLL_CLOEXEC), counter = eventfd(0, EFD_NONBLOCK), ends[2];
    CHECK(queue >= 0 && counter >= 0 && pipe(ends) == 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = fresh_seed()}, got[8];
    uint64_t pipe_cookie = event.data.u64;
    CHECK(epoll_ctl(queue, EPOLL_CTL_ADD, ends[0], &event) == 0);
    CHECK(epoll_ctl(queue, EPOLL_CTL_ADD, ends[0], &event) == -1 && errno == EEXIST);
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = 42;
    CHECK(epoll_ctl(queue, EPOLL_CTL_ADD, counter, &event) == 0);
    CHECK(epoll_wait(queue, got, 8, 0) == 0 && epoll_wait(queue, got, 8, 3) == 0);
    for (int i = 0; i < 6; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            sleep_ms(3);
            if (i % 2) {
                CHECK(eventfd_write(counter, 5) == 0);
            } else {
                write_all(ends[1], "x", 1);
            }
            _exit(0);
        }
        memset(got, 0x55, sizeof got);
        CHECK((i < 3 ? epoll_wait(queue, got, 8, -1) : epoll_pwait(queue, got, 8, 5000, NULL)) == 1);
        if (i % 2) {
            uint64_t value;
            CHECK(got[0].data.u64 == 42 && got[0].events == EPOLLIN);
            CHECK(epoll_wait(queue, got, 8, 0) == 0); /* edge-triggered: told once */
            CHECK(read(counter, &value, 8) == 8 && value == 5);
            CHECK(read(counter, &value, 8) == -1 && errno == EAGAIN);
        } else {
            char byte;
            CHECK(got[0].data.u64 == pipe_cookie);
            CHECK(epoll_wait(queue, got, 8, 0) == 1); /* level-triggered: told again */
            read_all(ends[0], &byte, 1);
        }
        expect_exit(child, 0);
    }
    CHECK(epoll_ctl(queue, EPOLL_CTL_DEL, ends[0], NULL) == 0);
    CHECK(epoll_wait(queue, got, 8, 0) == 0);
    printf("%016llx\n", (unsigned long long)pipe_cookie);
    return 0;
}

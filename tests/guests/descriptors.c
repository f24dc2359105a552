/* Descriptors: dup in its forms, flags, pipes with flags, ioctl, and offsets shared after a fork. */
#include "guest.h"
#include <sys/ioctl.h>
#include <termios.h>

int main(void) {
    int fd = open("offsets", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && unlink("offsets") == 0);
    int second = dup(fd), third = dup2(fd, 50), fourth = dup3(fd, 60, O_CLOEXEC), fifth = fcntl(fd, F_DUPFD, 70);
    CHECK(second >= 0 && third == 50 && fourth == 60 && fifth >= 70);
    CHECK(dup2(fd, fd) == fd && dup3(fd, fd, 0) == -1 && errno == EINVAL);
    CHECK(fcntl(fourth, F_GETFD) == FD_CLOEXEC && fcntl(third, F_GETFD) == 0);
    CHECK(write(second, "abc", 3) == 3 && lseek(fd, 0, SEEK_CUR) == 3);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(write(fd, "defg", 4) == 4);
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(lseek(fifth, 0, SEEK_CUR) == 7);
    CHECK(fcntl(fd, F_SETFL, O_APPEND) == 0 && (fcntl(second, F_GETFL) & O_APPEND) != 0);
    int ends[2];
    CHECK(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    char byte;
    CHECK(read(ends[0], &byte, 1) == -1 && errno == EAGAIN);
    static char block[1 << 17];
    ssize_t n = write(ends[1], block, sizeof block);
    CHECK(n > 0 && n < (ssize_t)sizeof block);
    CHECK(write(ends[1], block, sizeof block) == -1 && errno == EAGAIN);
    int waiting = 0;
    CHECK(ioctl(ends[0], FIONREAD, &waiting) == 0 && waiting == n);
    printf("pipe of %d, took %ld\n", fcntl(ends[0], F_GETPIPE_SZ), (long)n);
    struct termios terminal;
    CHECK(tcgetattr(ends[0], &terminal) == -1 && errno == ENOTTY);
    int off = 0;
    CHECK(ioctl(ends[0], FIONBIO, &off) == 0 && (fcntl(ends[0], F_GETFL) & O_NONBLOCK) == 0);
    CHECK(syscall(SYS_close_range, 50u, 60u, 0u) == 0 && fcntl(50, F_GETFD) == -1 && fcntl(fifth, F_GETFD) == 0);
    CHECK(close(999) == -1 && errno == EBADF);
    return 0;
}

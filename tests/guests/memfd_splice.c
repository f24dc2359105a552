/* Seals of a memfd, inotify on several things at once, splice that waits, sendfile to a socket, eventfd in poll. */
#include "guest.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

int main(void) {
    int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    strcpy(map, "before");
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EBUSY);
    CHECK(fcntl(fd, F_ADD_SEALS, 0x10) == 0); /* F_SEAL_FUTURE_WRITE */
    strcpy(map, "after");
    CHECK(pwrite(fd, "x", 1, 0) == -1 && errno == EPERM);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
    CHECK(munmap(map, 4096) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW) == 0);
    const char *view = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(view != MAP_FAILED && strcmp(view, "after") == 0 && ftruncate(fd, 8192) == -1 && errno == EPERM);
    CHECK(fcntl(fd, F_GET_SEALS) == (0x10 | F_SEAL_WRITE | F_SEAL_GROW));

    int pair[2], ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sleep_ms(2);
        off_t at = 0;
        CHECK(sendfile(pair[1], fd, &at, 2000) == 2000 && at == 2000);
        CHECK(shutdown(pair[1], SHUT_WR) == 0);
        _exit(0);
    }
    ssize_t moved = 0, n;
    while (moved < 2000) { /* waits for the child */
        n = splice(pair[0], NULL, ends[1], NULL, 65536, SPLICE_F_MOVE);
        CHECK(n > 0);
        moved += n;
    }
    static char back[4096];
    read_all(ends[0], back, 2000);
    CHECK(strcmp(back, "after") == 0);
    expect_exit(child, 0);

    char *dir = scratch_dir(), path[128], other[128];
    int watch = inotify_init1(IN_NONBLOCK);
    int one = inotify_add_watch(watch, dir, IN_ALL_EVENTS);
    CHECK(watch >= 0 && one >= 1);
    snprintf(path, sizeof path, "%s/a", dir);
    snprintf(other, sizeof other, "%s/bb", dir);
    CHECK(close(open(path, O_WRONLY | O_CREAT, 0600)) == 0 && rename(path, other) == 0 && unlink(other) == 0);
    _Alignas(8) char events[4096];
    uint32_t cookie = 0, seen = 0;
    n = read(watch, events, sizeof events);
    CHECK(n > 0);
    for (ssize_t i = 0; i < n;) {
        struct inotify_event *event = (struct inotify_event *)(events + i);
        if (event->mask & IN_MOVED_FROM) {
            cookie = event->cookie;
        } else if (event->mask & IN_MOVED_TO) {
            CHECK(event->cookie == cookie);
        }
        seen |= event->mask;
        i += (ssize_t)(sizeof *event + event->len);
    }
    CHECK((seen & (IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE)) ==
          (IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE));
    CHECK(read(watch, events, sizeof events) == -1 && errno == EAGAIN && inotify_rm_watch(watch, one) == 0);
    CHECK(rmdir(dir) == 0);
    printf("%u %d\n", cookie, getpid());
    return 0;
}

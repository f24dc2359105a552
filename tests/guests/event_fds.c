/* eventfd, timerfd, signalfd, inotify and pidfd: each is read after a blocking wait. */
#include "guest.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

int main(void) {
    int counter = eventfd(0, EFD_SEMAPHORE);
    CHECK(counter >= 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sleep_ms(3);
        CHECK(eventfd_write(counter, 2) == 0);
        _exit(0);
    }
    eventfd_t value;
    CHECK(eventfd_read(counter, &value) == 0 && value == 1);
    CHECK(eventfd_read(counter, &value) == 0 && value == 1);
    expect_exit(child, 0);

    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec setting = {{0, 2000000}, {0, 2000000}}, left;
    CHECK(timer >= 0 && timerfd_settime(timer, 0, &setting, NULL) == 0);
    uint64_t ticks = 0, expirations;
    while (ticks < 3) {
        CHECK(read(timer, &expirations, sizeof expirations) == sizeof expirations && expirations >= 1);
        ticks += expirations;
    }
    CHECK(timerfd_gettime(timer, &left) == 0);
    printf("%ld ticks, %ld ns left\n", (long)ticks, left.it_value.tv_nsec);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    CHECK(signals >= 0);
    fflush(stdout);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(kill(getppid(), SIGUSR1) == 0);
        _exit(0);
    }
    struct signalfd_siginfo info;
    CHECK(read(signals, &info, sizeof info) == sizeof info);
    CHECK(info.ssi_signo == SIGUSR1 && info.ssi_pid == (uint32_t)child);
    expect_exit(child, 0);

    char *dir = scratch_dir(), path[128];
    int watch = inotify_init1(IN_CLOEXEC);
    CHECK(watch >= 0 && inotify_add_watch(watch, dir, IN_CREATE | IN_CLOSE_WRITE | IN_DELETE) == 1);
    snprintf(path, sizeof path, "%s/new", dir);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && close(fd) == 0 && unlink(path) == 0);
    _Alignas(8) char events[4096];
    ssize_t n = read(watch, events, sizeof events);
    uint32_t seen = 0;
    for (ssize_t at = 0; at < n;) {
        struct inotify_event *event = (struct inotify_event *)(events + at);
        CHECK(strcmp(event->name, "new") == 0);
        seen |= event->mask;
        at += (ssize_t)(sizeof *event + event->len);
    }
    CHECK(seen == (IN_CREATE | IN_CLOSE_WRITE | IN_DELETE) && rmdir(dir) == 0);

    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pause();
        _exit(0);
    }
    int process = (int)syscall(SYS_pidfd_open, child, 0);
    if (process >= 0) {
        struct pollfd poller = {process, POLLIN, 0};
        CHECK(poll(&poller, 1, 0) == 0);
        CHECK(syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0) == 0);
        CHECK(poll(&poller, 1, 5000) == 1);
    } else {
        CHECK(kill(child, SIGKILL) == 0);
    }
    expect_death(child, SIGKILL);
    return 0;
}

/* Calls with bad pointers, at sites that the recorder knows, while SIGSEGV is blocked, ignored or
 * caught: the calls fail, no signal comes, and the signal settings do not change. Data that such a call
 * should have read is lost if it is lost without rr. */
#include "guest.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

static volatile sig_atomic_t hits;

static void handler(int signal) {
    (void)signal;
    hits++;
}

static void check_signals(int blocked, void (*action)(int)) {
    sigset_t mask;
    struct sigaction current;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGSEGV) == blocked);
    CHECK(sigaction(SIGSEGV, NULL, &current) == 0 && current.sa_handler == action);
    CHECK(hits == 0);
}

static void calls(void *bad, int blocked, void (*action)(int)) {
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    CHECK(zero >= 0 && null >= 0);
    char bytes[8];
    struct pollfd ready = {.fd = zero, .events = POLLIN};
    struct iovec part = {bytes, sizeof bytes};
    int word = 1;
    for (int round = 0; round < 6; round++) {
        int good = round < 3;
        CHECK(poll(good ? &ready : bad, 1, 0) == (good ? 1 : -1) && (good || errno == EFAULT));
        CHECK(readv(zero, good ? &part : bad, 1) == (good ? 8 : -1) && (good || errno == EFAULT));
        CHECK(writev(null, good ? &part : bad, 1) == (good ? 8 : -1) && (good || errno == EFAULT));
        CHECK(read(zero, good ? bytes : bad, 8) == (good ? 8 : -1) && (good || errno == EFAULT));
        CHECK(syscall(SYS_futex, good ? &word : bad, FUTEX_WAIT, 0, NULL, NULL, 0) == -1);
        CHECK(errno == (good ? EAGAIN : EFAULT));
        check_signals(blocked, action);
    }
    close(zero);
    close(null);
}

/* Data read to a bad address is lost: one message of a socket, the count of a counter. */
static void lost(void *bad) {
    int pair[2], counter = eventfd(0, EFD_NONBLOCK);
    CHECK(counter >= 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    for (int round = 0; round < 8; round++) {
        int good = round < 3;
        char bytes[4] = "";
        uint64_t count = 7;
        for (int way = 0; way < 2; way++) {
            CHECK(send(pair[0], "one", 4, 0) == 4 && send(pair[0], "two", 4, 0) == 4);
            ssize_t got = way ? read(pair[1], good ? bytes : bad, 4) : recv(pair[1], good ? bytes : bad, 4, 0);
            CHECK(got == (good ? 4 : -1) && (good || errno == EFAULT));
            CHECK(recv(pair[1], bytes, 4, MSG_DONTWAIT) == 4 && strcmp(bytes, "two") == 0);
        }
        CHECK(write(counter, &count, 8) == 8);
        CHECK(read(counter, good ? &count : bad, 8) == (good ? 8 : -1) && (good || errno == EFAULT));
        CHECK(read(counter, &count, 8) == -1 && errno == EAGAIN);
    }
    close(pair[0]);
    close(pair[1]);
    close(counter);
}

int main(void) {
    void *nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(nothing != MAP_FAILED);
    sigset_t segv;
    sigemptyset(&segv);
    sigaddset(&segv, SIGSEGV);
    CHECK(signal(SIGSEGV, handler) != SIG_ERR);
    calls(nothing, 0, handler);
    CHECK(sigprocmask(SIG_BLOCK, &segv, NULL) == 0);
    calls(nothing, 1, handler);
    CHECK(signal(SIGSEGV, SIG_IGN) != SIG_ERR);
    calls(nothing, 1, SIG_IGN);
    CHECK(sigprocmask(SIG_UNBLOCK, &segv, NULL) == 0);
    calls(nothing, 0, SIG_IGN);
    lost(nothing);
    /* Memory that can be read but not written: poll cannot store its answer. */
    int zero = open("/dev/zero", O_RDONLY);
    struct pollfd *fixed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(zero >= 0 && fixed != MAP_FAILED);
    fixed->fd = zero;
    fixed->events = POLLIN;
    CHECK(mprotect(fixed, 4096, PROT_READ) == 0);
    for (int round = 0; round < 4; round++) {
        CHECK(poll(fixed, 1, 0) == -1 && errno == EFAULT);
    }
    check_signals(0, SIG_IGN);
    printf("%p\n", nothing);
    return 0;
}

// guest: special
/* Writes a number that no recorder sees: from RDRAND, in code that the program makes itself. The
 * argument selects the way: file (write), vector (writev), pipe (write), socket (send), message
 * (sendmsg), out (standard output), large (the last bytes of a megabyte). Lengths and registers are the
 * same in every run. Before that, the program makes the same kind of write a few times. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Stores the number as eight letters; no register keeps any part of the number. */
__attribute__((noinline)) static void put_unseen(char *to) {
    /* again: rdrand rax; jnc again; ret */
    static const unsigned char code[] = {0x48, 0x0f, 0xc7, 0xf0, 0x73, 0xfa, 0xc3};
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    memcpy(at, code, sizeof code);
    uint64_t (*function)(void);
    memcpy(&function, &at, sizeof function);
    uint64_t number = function();
    for (int i = 0; i < 8; i++) {
        to[i] = (char)('a' + (number >> 8 * i & 15));
    }
    __asm__ volatile("xor %%eax, %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx; xor %%esi, %%esi; xor %%edi, %%edi;"
                     "xor %%r8d, %%r8d; xor %%r9d, %%r9d; xor %%r10d, %%r10d; xor %%r11d, %%r11d"
                     ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    static char large[1 << 20];
    static char line[] = "a number: ........ is it\n";
    enum { LENGTH = sizeof line - 1, ROUNDS = 5 };
    const char *how = argv[1];
    int ends[2], fd = open("written", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    for (int round = 1; round <= ROUNDS; round++) {
        struct iovec pieces[2] = {{line, 3}, {line + 3, LENGTH - 3}};
        if (strcmp(how, "pipe") == 0) {
            CHECK(pipe(ends) == 0);
        } else {
            CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        }
        if (round == ROUNDS) {
            put_unseen(line + 10);
        }
        ssize_t n = -1;
        if (strcmp(how, "file") == 0) {
            n = write(fd, line, LENGTH);
        } else if (strcmp(how, "vector") == 0) {
            n = writev(fd, pieces, 2);
        } else if (strcmp(how, "pipe") == 0) {
            n = write(ends[1], line, LENGTH);
        } else if (strcmp(how, "socket") == 0) {
            n = send(ends[1], line, LENGTH, 0);
        } else if (strcmp(how, "message") == 0) {
            struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
            n = sendmsg(ends[1], &message, 0);
        } else if (strcmp(how, "out") == 0) {
            n = write(1, line, LENGTH);
        } else if (strcmp(how, "large") == 0) {
            memcpy(large + sizeof large - LENGTH, line, LENGTH);
            n = write(fd, large, sizeof large) == (ssize_t)sizeof large ? (ssize_t)LENGTH : -1;
        }
        CHECK(n == (ssize_t)LENGTH);
    }
    return 0;
}

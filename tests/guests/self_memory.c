/* A process that reads and writes its own memory by /proc/self/mem and process_vm_readv. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/uio.h>

int main(void) {
    static volatile uint64_t word;
    word = fresh_seed();
    uint64_t value = 0;
    int fd = open("/proc/self/mem", O_RDWR);
    CHECK(fd >= 0);
    CHECK(pread(fd, &value, sizeof value, (off_t)(uintptr_t)&word) == sizeof value && value == word);
    value ^= 0xff;
    CHECK(pwrite(fd, &value, sizeof value, (off_t)(uintptr_t)&word) == sizeof value);
    CHECK(word == value);
    unsigned char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    CHECK(pwrite(fd, "forced", 6, (off_t)(uintptr_t)page) == 6); /* ptrace-like: protection does not matter */
    CHECK(memcmp(page, "forced", 6) == 0);
    uint64_t other = 0;
    struct iovec local = {&other, sizeof other}, remote = {(void *)(uintptr_t)&word, sizeof word};
    CHECK(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == sizeof other && other == word);
    other++;
    if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == sizeof other) {
        CHECK(other == word);
    } else {
        CHECK(recorded() && errno == ENOSYS); /* may be refused */
    }
    /* The program's own code, as it was compiled. */
    static unsigned char text[256];
    CHECK(pread(fd, text, sizeof text, (off_t)(uintptr_t)main) == sizeof text);
    CHECK(memcmp(text, (const void *)(uintptr_t)main, sizeof text) == 0);
    /* No memory of the program is at the recorder's own pages, so they cannot be read. */
    for (uintptr_t at = 0x6ff00000; at < 0x80000000; at += 0x3ff000) {
        char byte = 1;
        if (mincore((void *)at, 4096, (unsigned char *)text) == 0 && !recorded()) {
            continue;
        }
        CHECK(pwrite(fd, &byte, 1, (off_t)at) == -1 && errno == EIO);
        struct iovec one = {&byte, 1}, there = {(void *)at, 1};
        CHECK(pwritev(fd, &one, 1, (off_t)at) == -1 && errno == EIO);
        CHECK(process_vm_writev(getpid(), &one, 1, &there, 1, 0) == -1 && (errno == EFAULT || errno == ENOSYS));
    }
    CHECK(lseek(fd, 0x70011000, SEEK_SET) == 0x70011000);
    CHECK(write(fd, text, sizeof text) == -1 && errno == EIO);
    printf("%016llx %p\n", (unsigned long long)word, (void *)page);
    return 0;
}

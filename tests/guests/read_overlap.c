/* Reads and writes whose buffers lie across pages, in freshly mapped memory, and in the program's own text. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/uio.h>

int main(void) {
    uint64_t seed = fresh_seed();
    static unsigned char data[100000];
    fill_random(data, sizeof data, &seed);
    int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    write_all(fd, data, sizeof data);
    unsigned char *area = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    CHECK(pread(fd, area + 4095, sizeof data, 0) == (ssize_t)sizeof data); /* into untouched pages */
    CHECK(memcmp(area + 4095, data, sizeof data) == 0);
    struct iovec parts[5] = {
        {area + 300000, 3}, {NULL, 0}, {area + 300001, 5000}, {area + 400000, 1}, {area + 300002, 10}};
    CHECK(preadv(fd, parts, 5, 7) == 5014); /* overlapping parts: later ones win */
    CHECK(memcmp(area + 300002, data + 7 + 5004, 10) == 0);
    CHECK(area[300000] == data[7] && area[300001] == data[10]);
    CHECK(pwritev(fd, parts, 5, 50) == 5014);
    CHECK(lseek(fd, 0, SEEK_END) == (off_t)sizeof data);
    CHECK(lseek(fd, 10, SEEK_SET) == 10);
    CHECK(readv(fd, parts, 5) == 5014);
    CHECK(lseek(fd, 0, SEEK_CUR) == 5024);
    CHECK(unlink("data") == 0);
    printf("%016llx\n", (unsigned long long)checksum(area, 1 << 20));
    return 0;
}

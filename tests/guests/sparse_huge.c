/* Files of terabytes that contain very little data, mapped as a whole: only the data is read and kept. */
#include "guest.h"
#include <sys/mman.h>

#define SIZE (2ul << 40)

static char *map(int fd, size_t length, int flags, off_t offset) {
    char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, offset);
    CHECK(at != MAP_FAILED);
    return at;
}

static void look(int fd, uint64_t *state) {
    CHECK(ftruncate(fd, SIZE) == 0);
    char data[5000];
    fill_random(data, sizeof data, state);
    CHECK(pwrite(fd, data, sizeof data, SIZE / 4) == (ssize_t)sizeof data);
    char *all = map(fd, SIZE, MAP_SHARED, 0);
    char *part = map(fd, 1 << 20, MAP_SHARED, SIZE / 2);
    char *own = map(fd, SIZE, MAP_PRIVATE, 0);
    CHECK(memcmp(all + SIZE / 4, data, sizeof data) == 0 && memcmp(own + SIZE / 4, data, sizeof data) == 0);
    all[0] = 7;
    all[SIZE / 2] = 9;
    own[SIZE - 1] = (char)next_random(state);
    CHECK(part[0] == 9 && all[SIZE - 1] == 0);
    printf("%016llx %d\n", (unsigned long long)checksum(all + SIZE / 4, sizeof data), own[SIZE - 1]);
    munmap(all, SIZE);
    /* The same again, with the data that was left there. */
    all = map(fd, SIZE, MAP_SHARED, 0);
    CHECK(all[0] == 7 && all[SIZE / 2] == 9 && all[SIZE - 1] == 0);
    munmap(all, SIZE);
    munmap(part, 1 << 20);
    munmap(own, SIZE);
    all = map(fd, SIZE, MAP_SHARED, 0);
    CHECK(all[0] == 7 && all[SIZE / 2] == 9 && all[SIZE - 1] == 0);
    munmap(all, SIZE);
}

int main(void) {
    uint64_t state = fresh_seed();
    int file = open("sparse", O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(file >= 0 && unlink("sparse") == 0);
    look(file, &state);
    int memory = memfd_create("double", 0);
    CHECK(memory >= 0);
    look(memory, &state);
    return 0;
}

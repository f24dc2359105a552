// guest: special
/* A server that runs for long: each request reads, changes memory, and is answered by a helper process that lives as long as the
 * server. Now and then a file is mapped that is gone soon, and a process is forked that executes a program.
 *
 * args: the number of requests; 0: until it is killed */
#include "guest.h"
#include <sys/mman.h>

enum { TABLE = 4 << 20, PAGE = 4096 };

static unsigned char *table;
static uint64_t total;

static void map_a_file(unsigned number) {
    char name[64];
    snprintf(name, sizeof name, "mapped-%u", number);
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    write_all(fd, table + (size_t)number * PAGE % TABLE, PAGE);
    unsigned char *view = mmap(NULL, PAGE, PROT_READ, number % 2 ? MAP_PRIVATE : MAP_SHARED, fd, 0);
    CHECK(view != MAP_FAILED);
    close(fd);
    CHECK(unlink(name) == 0);
    total += checksum(view, PAGE);
    CHECK(munmap(view, PAGE) == 0);
}

static __attribute__((noinline)) void request(unsigned number, uint64_t *state) {
    fill_random(table + (size_t)number * PAGE % TABLE, PAGE, state);
    total += number;
}

int main(int argc, char **argv) {
    unsigned requests = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    int to_helper[2], from_helper[2];
    CHECK(pipe(to_helper) == 0 && pipe(from_helper) == 0);
    pid_t helper = fork();
    CHECK(helper >= 0);
    if (helper == 0) {
        close(to_helper[1]);
        uint64_t value;
        while (read(to_helper[0], &value, sizeof value) == (ssize_t)sizeof value) {
            value = value * 3 + 1;
            write_all(from_helper[1], &value, sizeof value);
        }
        _exit(5);
    }
    table = malloc(TABLE);
    CHECK(table != NULL);
    uint64_t state = fresh_seed();
    for (unsigned number = 1; requests == 0 || number <= requests; number++) {
        request(number, &state);
        uint64_t answer;
        write_all(to_helper[1], &state, sizeof state);
        read_all(from_helper[0], &answer, sizeof answer);
        CHECK(answer == state * 3 + 1);
        if (number % 16 == 0) {
            map_a_file(number);
        }
        if (number % 128 == 0) {
            pid_t child = fork();
            CHECK(child >= 0);
            if (child == 0) {
                execl("/bin/true", "true", NULL);
                _exit(1);
            }
            expect_exit(child, 0);
        }
        printf("request %u: %llu\n", number, (unsigned long long)total);
        fflush(stdout);
        sleep_ms(1);
    }
    close(to_helper[1]);
    expect_exit(helper, 5);
    return 0;
}

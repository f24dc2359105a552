// guest: heavy
/* A hundred processes at once. Each has memory of its own, and one piece of memory is shared by all: a
 * checkpoint contains all of these. */
#include "guest.h"
#include <sys/mman.h>

enum { COUNT = 100, OWN = 3 * 4096 };

int main(void) {
    uint64_t seed = fresh_seed();
    static unsigned char own[OWN];
    fill_random(own, sizeof own, &seed);
    uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    int here[2], go[2];
    CHECK(pipe2(here, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0);
    for (int i = 0; i < COUNT; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            close(go[1]);
            own[(size_t)i * 97 % OWN] ^= (unsigned char)(i + 1);
            char byte = 'h';
            write_all(here[1], &byte, 1);
            /* The end of the pipe: all processes wait until all of them are here. */
            CHECK(read(go[0], &byte, 1) == 0);
            shared[i] = checksum(own, sizeof own);
            _exit(i % 50);
        }
    }
    char byte;
    for (int i = 0; i < COUNT; i++) {
        read_all(here[0], &byte, 1);
    }
    getppid();
    getppid();
    close(go[1]);
    int sum = 0, status;
    for (int i = 0; i < COUNT; i++) {
        CHECK(wait(&status) > 0 && WIFEXITED(status));
        sum += WEXITSTATUS(status);
    }
    CHECK(sum == 2 * 49 * 25);
    for (int i = 0; i < COUNT; i++) {
        own[(size_t)i * 97 % OWN] ^= (unsigned char)(i + 1);
        CHECK(shared[i] == checksum(own, sizeof own));
        own[(size_t)i * 97 % OWN] ^= (unsigned char)(i + 1);
    }
    printf("%016llx\n", (unsigned long long)checksum(shared, COUNT * sizeof *shared));
    return 0;
}

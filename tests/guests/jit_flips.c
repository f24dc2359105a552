/* A code generator like those of browsers: pages are either writable or executable. Code is written,
 * made executable, run, made writable again and changed; a second mapping of the same memory is
 * writable all the time. */
#include "guest.h"
#include <sys/mman.h>

#define SIZE 16384ul

typedef uint32_t function(void);

static void generate(unsigned char *at, uint32_t value) {
    at[0] = 0xb8; /* mov eax, value */
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3; /* ret */
}

static uint32_t call(unsigned char *at) {
    function *code;
    memcpy(&code, &at, sizeof code);
    return code();
}

int main(void) {
    uint64_t seed = fresh_seed();
    unsigned char *code = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED);
    for (int round = 0; round < 6; round++) {
        uint32_t values[SIZE / 1024];
        for (size_t i = 0; i < SIZE / 1024; i++) {
            values[i] = (uint32_t)next_random(&seed);
            generate(code + i * 1024 + (size_t)round * 16, values[i]);
        }
        CHECK(mprotect(code, SIZE, PROT_READ | PROT_EXEC) == 0);
        uint32_t sum = 0;
        for (size_t i = 0; i < SIZE / 1024; i++) {
            CHECK(call(code + i * 1024 + (size_t)round * 16) == values[i]);
            sum += values[i];
        }
        getppid();
        printf("%08x\n", sum);
        CHECK(mprotect(code, SIZE, PROT_READ | PROT_WRITE) == 0);
    }
    int fd = memfd_create("code", 0);
    CHECK(fd >= 0 && ftruncate(fd, SIZE) == 0);
    unsigned char *writable = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *executable = mmap(NULL, SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    CHECK(writable != MAP_FAILED && executable != MAP_FAILED);
    for (int round = 0; round < 6; round++) {
        uint32_t value = (uint32_t)next_random(&seed);
        generate(writable + 100, value);
        CHECK(call(executable + 100) == value);
        getppid();
        printf("%08x\n", value);
    }
    return 0;
}

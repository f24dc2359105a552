/* Code made at run time: written, executed, changed in place and executed again. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    uint64_t seed = fresh_seed();
    unsigned char *code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED);
    for (int i = 0; i < 20; i++) {
        uint32_t value = (uint32_t)next_random(&seed);
        code[0] = 0xb8; /* mov eax, value */
        memcpy(code + 1, &value, 4);
        code[5] = 0xc3; /* ret */
        uint32_t (*function)(void);
        memcpy(&function, &code, sizeof function);
        CHECK(function() == value);
        printf("%08x\n", value);
    }
    /* A system call instruction of our own, moved around. */
    for (size_t at = 16; at < 4096; at += 1000) {
        static const unsigned char getpid_code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
        memcpy(code + at, getpid_code, sizeof getpid_code);
        unsigned char *start = code + at;
        int (*function)(void);
        memcpy(&function, &start, sizeof function);
        CHECK(function() == getpid());
    }
    CHECK(mprotect(code, 4096, PROT_READ | PROT_EXEC) == 0);
    printf("%p\n", (void *)code);
    return 0;
}

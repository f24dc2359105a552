// guest: special
/* Prints which of some features of the processor the program is shown: by cpuid in compiled code, in code that the program makes
 * itself, and by the C library. */
#include "guest.h"
#include <cpuid.h>
#include <sys/mman.h>

static uint32_t answer[4];

/* mov r8, rdi; mov r9, rbx; mov eax, esi; mov ecx, edx; cpuid; four stores; mov rbx, r9; ret */
static const unsigned char code[] = {0x49, 0x89, 0xf8, 0x49, 0x89, 0xd9, 0x89, 0xf0, 0x89, 0xd1, 0x0f, 0xa2, 0x41, 0x89, 0x00, 0x41,
                                     0x89, 0x58, 0x04, 0x41, 0x89, 0x48, 0x08, 0x41, 0x89, 0x50, 0x0c, 0x4c, 0x89, 0xcb, 0xc3};

static void show(const char *where, uint32_t one, uint32_t seven) {
    printf("%s: sse4.2 %u avx2 %u avx512f %u\n", where, one >> 20 & 1, seven >> 5 & 1, seven >> 16 & 1);
}

int main(void) {
    uint32_t a, b, c, d, b7;
    __cpuid(1, a, b, c, d);
    __cpuid_count(7, 0, a, b7, d, d);
    show("compiled", c, b7);
    __builtin_cpu_init();
    printf("library: sse4.2 %d avx2 %d avx512f %d\n", __builtin_cpu_supports("sse4.2") != 0, __builtin_cpu_supports("avx2") != 0,
           __builtin_cpu_supports("avx512f") != 0);
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    memcpy(at, code, sizeof code);
    void (*made)(uint32_t *, uint32_t, uint32_t);
    memcpy(&made, &at, sizeof made);
    made(answer, 1, 0);
    c = answer[2];
    made(answer, 7, 0);
    show("made", c, answer[1]);
    return 0;
}

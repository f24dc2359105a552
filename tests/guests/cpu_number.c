/* The number of the CPU, from cpuid: in compiled code, and in assembly code that has a symbol with a size, but no unwind table.
 * With BARE (cpu_number_bare.c), also in assembly code that nothing is known about. With the argument `made`, in code that the
 * program makes. */
#include "guest.h"
#include <cpuid.h>
#include <sched.h>
#include <sys/mman.h>

uint32_t number_of_symbol(void);
__asm__(".globl number_of_symbol\n"
        ".type number_of_symbol, @function\n"
        "number_of_symbol:\n"
        "  push %rbx\n"
        "  mov $1, %eax\n"
        "  xor %ecx, %ecx\n"
        "  cpuid\n"
        "  mov %ebx, %eax\n"
        "  shr $24, %eax\n"
        "  pop %rbx\n"
        "  ret\n"
        ".size number_of_symbol, . - number_of_symbol\n");

/* push rbx; mov eax, 1; xor ecx, ecx; cpuid; mov eax, ebx; shr eax, 24; pop rbx; ret */
static const unsigned char MADE[] = {0x53, 0xb8, 1,    0,    0,    0,    0x31, 0xc9, 0x0f,
                                     0xa2, 0x89, 0xd8, 0xc1, 0xe8, 0x18, 0x5b, 0xc3};

#ifdef BARE
/* The same, somewhere in the code. */
extern const unsigned char bare[];
__asm__(".pushsection .text\n"
        ".balign 16\n"
        "  .fill 32, 1, 0xcc\n"
        "bare:\n"
        "  .byte 0x53, 0xb8, 1, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0xd8, 0xc1, 0xe8, 0x18, 0x5b, 0xc3\n"
        "  .fill 32, 1, 0xcc\n"
        ".popsection\n");
#endif

static uint32_t compiled(void) {
    uint32_t a, b, c, d;
    __cpuid_count(1, 0, a, b, c, d);
    return b >> 24;
}

int main(int count, char **args) {
    const char *what = count > 1 ? args[1] : "";
    /* Natively a program may be moved between the questions. */
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);

    uint32_t first = compiled();
    CHECK(number_of_symbol() == first);
#ifdef BARE
    CHECK(((uint32_t(*)(void))bare)() == first);
#endif
    if (strcmp(what, "made") == 0) {
        void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(at != MAP_FAILED);
        memcpy(at, MADE, sizeof MADE);
        CHECK(mprotect(at, 4096, PROT_READ | PROT_EXEC) == 0);
        CHECK(((uint32_t(*)(void))at)() == first);
    }
    printf("number %u\n", first);
    return 0;
}

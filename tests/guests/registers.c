/* All general registers but rax, rcx and r11 stay what they are over a system call; flags too. */
#include "guest.h"

int main(void) {
    uint64_t seed = fresh_seed();
    for (int i = 0; i < 50; i++) {
        uint64_t in[8], out[8], flags;
        fill_random(in, sizeof in, &seed);
        __asm__ volatile("sub $128, %%rsp\n push %%rbp\n push %%rbx\n"
                         "mov 0(%[in]), %%r8\n mov 8(%[in]), %%r9\n mov 16(%[in]), %%r10\n mov 24(%[in]), %%r12\n"
                         "mov 32(%[in]), %%r13\n mov 40(%[in]), %%rbx\n mov 48(%[in]), %%rbp\n"
                         "std\n stc\n mov $110, %%eax\n syscall\n pushfq\n cld\n"
                         "mov %%r8, 0(%[out])\n mov %%r9, 8(%[out])\n mov %%r10, 16(%[out])\n"
                         "mov %%r12, 24(%[out])\n mov %%r13, 32(%[out])\n mov %%rbx, 40(%[out])\n"
                         "mov %%rbp, 48(%[out])\n pop %%r8\n pop %%rbx\n pop %%rbp\n mov %%r8, %%rdx\n add $128, %%rsp\n"
                         : "=d"(flags)
                         : [in] "S"(in), [out] "D"(out)
                         : "rax", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "memory", "cc");
        CHECK(memcmp(in, out, 7 * 8) == 0);
        CHECK((flags & 0x401) == 0x401); /* carry and direction */
    }
    printf("%016llx\n", (unsigned long long)seed);
    return 0;
}

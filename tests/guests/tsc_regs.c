/* rdtsc changes rax and rdx and no other register, at any site. */
#include "guest.h"

int main(void) {
    uint64_t kept[6], low, high;
    __asm__ volatile("mov $0x1111, %%r8\n mov $0x2222, %%r9\n mov $0x3333, %%r10\n mov $0x4444, %%r11\n"
                     "mov $0x5555, %%rsi\n mov $0x6666, %%rdi\n mov $-1, %%rax\n mov $-1, %%rdx\n"
                     "rdtsc\n"
                     "mov %%rax, %[low]\n mov %%rdx, %[high]\n"
                     "mov %%r8, 0(%[kept])\n mov %%r9, 8(%[kept])\n mov %%r10, 16(%[kept])\n"
                     "mov %%r11, 24(%[kept])\n mov %%rsi, 32(%[kept])\n mov %%rdi, 40(%[kept])\n"
                     : [low] "=&b"(low), [high] "=&c"(high)
                     : [kept] "r"(kept)
                     : "rax", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory");
    for (int i = 0; i < 6; i++) {
        CHECK(kept[i] == 0x1111u * (unsigned)(i + 1));
    }
    CHECK(low >> 32 == 0 && high >> 32 == 0);
    printf("%llu\n", (unsigned long long)(high << 32 | low));
    return 0;
}

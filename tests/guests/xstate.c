// guest: cflags=-O1,-mavx
/* Vector, x87 and control registers keep their values over system calls, forks and checkpoints. */
#include "guest.h"
#include <immintrin.h>

int main(void) {
    uint64_t seed = fresh_seed();
    if (!__builtin_cpu_supports("avx")) {
        puts("no AVX");
        return 0;
    }
    unsigned char in[256], out[256];
    fill_random(in, sizeof in, &seed);
    uint16_t control = 0x0c7f, control_after = 0; /* x87: round towards zero */
    uint32_t mxcsr = 0x3f80, mxcsr_after = 0;     /* SSE: round up */
    double x87 = 1.0 / 3.0, x87_after = 0;
    for (int i = 0; i < 20; i++) {
        long number = i == 10 ? SYS_fork : SYS_getppid, result;
        __asm__ volatile("fldcw %[cw]\n ldmxcsr %[mx]\n fldl %[x87]\n"
                         "vmovups 0(%[in]), %%ymm8\n vmovups 32(%[in]), %%ymm9\n vmovups 64(%[in]), %%ymm1\n"
                         "vmovups 96(%[in]), %%ymm15\n"
                         "syscall\n"
                         "vmovups %%ymm8, 0(%[out])\n vmovups %%ymm9, 32(%[out])\n vmovups %%ymm1, 64(%[out])\n"
                         "vmovups %%ymm15, 96(%[out])\n"
                         "fstpl %[x87_after]\n fnstcw %[cw_after]\n stmxcsr %[mx_after]\n vzeroupper\n"
                         : "=a"(result), [x87_after] "=m"(x87_after), [cw_after] "=m"(control_after),
                           [mx_after] "=m"(mxcsr_after)
                         : "a"(number), [in] "r"(in), [out] "r"(out), [cw] "m"(control), [mx] "m"(mxcsr),
                           [x87] "m"(x87)
                         : "rcx", "r11", "memory", "xmm1", "xmm8", "xmm9", "xmm15", "st");
        CHECK(memcmp(in, out, 128) == 0);
        CHECK(control_after == control && mxcsr_after == mxcsr && x87_after == x87);
        if (i == 10) {
            if (result == 0) {
                _exit(6);
            }
            expect_exit((pid_t)result, 6);
        }
        in[i]++;
    }
    static const uint32_t normal = 0x1f80;
    __asm__ volatile("fninit\n ldmxcsr %0" : : "m"(normal));
    printf("%016llx\n", (unsigned long long)checksum(out, 128));
    return 0;
}

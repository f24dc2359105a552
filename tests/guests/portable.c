// guest: special
/* Prints what the program is shown of the processor, and keeps extended state in use over signals, system calls, and a loop that
 * is interrupted. With AVX if the processor is shown to have it. */
#include "guest.h"
#include <cpuid.h>
#include <immintrin.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static float sum(const float *all, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += all[i];
    return sum;
}

__attribute__((target("avx"))) static float wide(int how) {
    float all[8];
    __m256 value = _mm256_setr_ps(1, 2, 3, 4, 5, 6, 7, 8);
    __asm__ volatile("" : "+x"(value));
    if (how == 0)
        CHECK(raise(SIGUSR1) == 0);
    else
        for (sig_atomic_t seen = ticks; ticks == seen;)
            __asm__ volatile("vaddps %0, %0, %0\n\tvmulps %1, %0, %0" : "+x"(value) : "x"(_mm256_set1_ps(0.5f)));
    _mm256_storeu_ps(all, value);
    return sum(all, 8);
}

static float narrow(int how) {
    float all[4];
    __m128 value = _mm_setr_ps(1, 2, 3, 4);
    __asm__ volatile("" : "+x"(value));
    if (how == 0)
        CHECK(raise(SIGUSR1) == 0);
    else
        for (sig_atomic_t seen = ticks; ticks == seen;)
            __asm__ volatile("addps %0, %0\n\tmulps %1, %0" : "+x"(value) : "x"(_mm_set1_ps(0.5f)));
    _mm_storeu_ps(all, value);
    return sum(all, 4);
}

static void handler(int signo) {
    (void)signo;
    ticks++;
    __asm__ volatile("pxor %%xmm0, %%xmm0\n\tpxor %%xmm1, %%xmm1\n\tfldz" ::: "xmm0", "xmm1");
}

int main(void) {
    uint32_t a, b, c, d;
    CHECK(__get_cpuid_max(0, NULL) >= 0xd);
    __cpuid(1, a, b, c, d);
    uint32_t shown = c & bit_OSXSAVE;
    printf("sse4.2 %d aes %d rdrand %d osxsave %d avx %d\n", c >> 20 & 1, c >> 25 & 1, c >> 30 & 1, shown != 0, c >> 28 & 1);
    __cpuid_count(7, 0, a, b, c, d);
    printf("leaf 7: %u %08x %08x %08x\n", a, b & ~(1u << 9), c, d & ~(1u << 4));
    __cpuid_count(0xd, 0, a, b, c, d);
    printf("leaf 13: %u %u\n", a, d);
    __builtin_cpu_init();
    printf("library: v2 %d v3 %d v4 %d fsgsbase %d\n", __builtin_cpu_supports("x86-64-v2") != 0,
           __builtin_cpu_supports("x86-64-v3") != 0, __builtin_cpu_supports("x86-64-v4") != 0,
           (getauxval(AT_HWCAP2) & 2) != 0);
    if (shown) {
        __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
        printf("xgetbv: %u %u\n", a, d);
    }
    int has_avx = __builtin_cpu_supports("avx") != 0;
    CHECK(signal(SIGUSR1, handler) != SIG_ERR && signal(SIGALRM, handler) != SIG_ERR);
    struct itimerval often = {{0, 20000}, {0, 20000}}, never = {{0, 0}, {0, 0}};
    printf("raised: %g\n", has_avx ? wide(0) : narrow(0));
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int i = 0; i < 3; i++)
        printf("interrupted: %d\n", (has_avx ? wide(1) : narrow(1)) >= 0);
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    return 0;
}

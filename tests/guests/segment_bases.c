/* The GS base by arch_prctl, and thread-local storage by FS, over events and in a child. */
#include "guest.h"
#include <asm/prctl.h>

static __thread uint64_t local = 5;
static uint64_t words[4] = {11, 22, 33, 44};

static uint64_t read_gs(void) {
    uint64_t value;
    __asm__ volatile("mov %%gs:8, %0" : "=r"(value));
    return value;
}

int main(void) {
    uint64_t base = 0;
    CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, words) == 0);
    CHECK(read_gs() == 22);
    CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0 && base == (uintptr_t)words);
    CHECK(syscall(SYS_arch_prctl, ARCH_GET_FS, &base) == 0);
    local = fresh_seed();
    uint64_t before = local;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(read_gs() == 22 && local == before);
        local = 1;
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(read_gs() == 22 && local == before);
    CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, words + 1) == 0 && read_gs() == 33);
    CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, 1ul << 60) == -1 && errno == EPERM);
    printf("fs %016llx tls %p\n", (unsigned long long)base, (void *)&local);
    return 0;
}

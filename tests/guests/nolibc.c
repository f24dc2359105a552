// guest: cflags=-static,-nostdlib,-ffreestanding,-fno-stack-protector,-no-pie
/* No C library at all: a few system calls from _start, on a program of two pages. */
#include <stddef.h>

static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static void print_number(unsigned long value) {
    char text[24];
    size_t at = sizeof text;
    text[--at] = '\n';
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    call(1, 1, (long)(text + at), (long)(sizeof text - at));
}

__attribute__((noreturn, used)) static void run(void) {
    print_number((unsigned long)call(39, 0, 0, 0));  /* getpid */
    print_number((unsigned long)call(201, 0, 0, 0)); /* time */
    print_number((unsigned long)call(12, 0, 0, 0));  /* brk */
    long child = call(57, 0, 0, 0);                  /* fork */
    if (child == 0) {
        call(231, 5, 0, 0);
    }
    int status = 0;
    long got;
    __asm__ volatile("xor %%r10d, %%r10d\n syscall"
                     : "=a"(got)
                     : "a"(61L), "D"(child), "S"(&status), "d"(0L)
                     : "rcx", "r11", "r10", "memory"); /* wait4 */
    call(231, got == child && status == 5 << 8 ? 0 : 1, 0, 0);
    __builtin_unreachable();
}

__asm__(".globl _start\n_start: xor %ebp, %ebp\n and $-16, %rsp\n call run\n");

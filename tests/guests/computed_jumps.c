/* System call sites with an instruction just before the call that only computed jumps reach: by a jump
 * table of addresses, by a table of distances, and by an address that is taken. */
#include "guest.h"

/* Each function: (way) -> getppid; way 0 goes through all instructions, way 1 skips the first. */
long by_addresses(long way);
long by_distances(long way);
long by_address(long way);

__asm__(".text\n"
        "by_addresses:\n"
        "    lea addresses(%rip), %rdx\n"
        "    xor %eax, %eax\n"
        "    jmp *(%rdx,%rdi,8)\n"
        "1:  mov %rdi, %rsi\n"
        "2:  mov $110, %al\n"
        "    syscall\n"
        "    ret\n"
        ".section .data.rel.ro,\"aw\"\n"
        ".balign 8\n"
        "addresses: .quad 1b, 2b\n"
        ".text\n"
        ".fill 128, 1, 0x90\n"
        "by_distances:\n"
        "    lea distances(%rip), %rdx\n"
        "    movslq (%rdx,%rdi,4), %rcx\n"
        "    add %rdx, %rcx\n"
        "    xor %eax, %eax\n"
        "    jmp *%rcx\n"
        "1:  mov %rdi, %rsi\n"
        "2:  mov $110, %al\n"
        "    syscall\n"
        "    ret\n"
        ".section .rodata\n"
        ".balign 4\n"
        "distances: .long 1b - distances, 2b - distances\n"
        ".text\n"
        ".fill 128, 1, 0x90\n"
        "by_address:\n"
        "    lea 1f(%rip), %rdx\n"
        "    lea 2f(%rip), %rcx\n"
        "    xor %eax, %eax\n"
        "    test %rdi, %rdi\n"
        "    cmovnz %rcx, %rdx\n"
        "    jmp *%rdx\n"
        "1:  mov %rdi, %rsi\n"
        "2:  mov $110, %al\n"
        "    syscall\n"
        "    ret\n");

int main(void) {
    for (int n = 0; n < 20; n++) {
        long way = n >= 8 && n % 2;
        CHECK(by_addresses(way) == getppid());
        CHECK(by_distances(way) == getppid());
        CHECK(by_address(way) == getppid());
    }
    printf("%d\n", getpid());
    return 0;
}

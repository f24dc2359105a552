// A repeated instruction writes a watched place, and so does what follows.
#include <sys/syscall.h>
#include <unistd.h>

volatile unsigned char to[64];

int main(void) {
    syscall(SYS_getppid);
    unsigned char *d = (unsigned char *)to;
    unsigned long n = sizeof to;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(7) : "memory");
    for (int i = 0; i < 40; i++)
        to[i % 8] = i;
    return to[3] == 35 ? 0 : 1;
}

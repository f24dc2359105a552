// Instructions that a debugger has trouble stepping over.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

char from[300] = "from", to[300];
unsigned long flags, counter, leaf;
volatile int caught;

static void handler(int signo) {
    caught = signo;
}

__attribute__((noinline)) void flags_of(void) {
    __asm__ volatile("pushfq\n\tpop %0" : "=r"(flags));
}

__attribute__((noinline)) void count(void) {
    unsigned lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    counter = (unsigned long)hi << 32 | lo;
}

__attribute__((noinline)) void identify(void) {
    unsigned a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    leaf = a ^ b ^ c ^ d;
}

__attribute__((noinline)) void move(void) {
    char *s = from, *d = to;
    unsigned long n = 20;
    __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n)::"memory");
}

__attribute__((noinline)) long call(void) {
    long result = SYS_getppid;
    __asm__ volatile("syscall" : "+a"(result)::"rcx", "r11", "memory");
    return result;
}

int main(void) {
    signal(SIGUSR1, handler);
    flags_of();
    count();
    identify();
    move();
    long parent = call();
    call();
    kill(getpid(), SIGUSR1);
    printf("%d %d\n", caught, parent > 0); // caught
    return 0;
}

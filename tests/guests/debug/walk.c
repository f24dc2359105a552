// Functions, a signal handler, system calls, memory: something to step through.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int total;
int hits;
char text[64] = "untouched";
int *volatile nowhere;

__attribute__((noinline)) int twice(int n) {
    int result = n * 2;
    return result;
}

__attribute__((noinline)) int add(int n) {
    total += twice(n); // add
    return total; // more
}

__attribute__((noinline)) char *copy(const char *what) {
    char *p = malloc(100);
    strcpy(p, what);
    return p;
}

__attribute__((noinline)) int crash(int n) {
    *nowhere = n;
    return n;
}

__attribute__((noinline)) void handler(int signo) {
    hits += signo; // handler
}

__attribute__((noinline)) void calls(int n) {
    for (int i = 0; i < n; i++)
        getppid();
}

int main(void) {
    signal(SIGUSR1, handler);
    for (int i = 1; i <= 10; i++)
        add(i); // loop
    raise(SIGUSR1); // raise
    hits++; // after
    calls(5); // calls
    char *p = copy("hello"); // copy
    strcpy(text, p);
    printf("%s %d %d\n", text, total, hits); // print
    fflush(stdout);
    getpid();
    free(p); // free
    return 3; // return
}

/* Adds numbers up, in a function of its own, with system calls between. Its argument says how many (200). */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int total;

__attribute__((noinline)) static void add(int n) { total += n; }

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 200;
    for (int i = 1; i <= count; i++) {
        add(i);
        int ends[2];
        char c = (char)i;
        if (pipe(ends) || write(ends[1], &c, 1) != 1 || read(ends[0], &c, 1) != 1)
            return 1;
        close(ends[0]);
        close(ends[1]);
    }
    printf("%d\n", total);
    return 0;
}

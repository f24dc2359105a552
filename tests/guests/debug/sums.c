/* Adds numbers up, in a function of its own, with system calls between. */
#include <stdio.h>
#include <unistd.h>

int total;

__attribute__((noinline)) static void add(int n) { total += n; }

int main(void) {
    for (int i = 1; i <= 200; i++) {
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

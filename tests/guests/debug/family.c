// Forks a child that executes this program again, and one that does not.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int where;

__attribute__((noinline)) static int in_child(int n) {
    where = n; // child
    return n + 1;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        where = 2; // executed
        printf("executed %s\n", argv[1]);
        return in_child(4);
    }
    pid_t first = fork(); // fork
    if (first == 0)
        _exit(in_child(7));
    waitpid(first, NULL, 0);
    pid_t second = fork();
    if (second == 0) {
        execl("/proc/self/exe", "again", "x", NULL);
        _exit(1);
    }
    int status;
    waitpid(second, &status, 0);
    printf("%d %d\n", first, second); // end
    return WEXITSTATUS(status);
}

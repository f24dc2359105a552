// guest: cflags=-static-pie
/* A static program that relocates itself. */
#include "guest.h"
#include <sys/mman.h>

static int data[5000] = {1, 2, 3};

int main(void) {
    char *heap = malloc(300000);
    CHECK(heap != NULL);
    memset(heap, 7, 300000);
    data[4999] = getpid();
    printf("code %p data %p heap %p pid %d sum %016llx\n", (void *)(uintptr_t)main, (void *)data, (void *)heap, data[4999],
           (unsigned long long)checksum(heap, 300000));
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        data[1]++;
        CHECK(data[4999] == getppid());
        _exit(data[1]);
    }
    expect_exit(child, 3);
    CHECK(data[1] == 2);
    printf("time %ld\n", (long)time(NULL));
    return 0;
}

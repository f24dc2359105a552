/* The stack as the C library and sanitizers see it: as large as its limit, though /proc/self/maps shows what lies below. */
#define _GNU_SOURCE
#include "guest.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Bytes of the entry [stack], and the figure Size of it in smaps. */
static unsigned long listed(const char *path, unsigned long *size) {
    char line[4096];
    unsigned long start, end, bytes = 0;
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    int in_stack = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%lx-%lx", &start, &end) == 2) {
            in_stack = strstr(line, "[stack]") != NULL;
            bytes = in_stack ? end - start : bytes;
        } else if (in_stack) {
            sscanf(line, "Size: %lu kB", size);
        }
    }
    fclose(file);
    return bytes;
}

static void look(void) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
    pthread_attr_t attributes;
    void *lowest;
    size_t bytes;
    CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
    CHECK(pthread_attr_getstack(&attributes, &lowest, &bytes) == 0);
    /* What lies above the first frame does not count. */
    CHECK(bytes <= limit.rlim_cur && bytes + (512 << 10) > limit.rlim_cur);
    CHECK((uintptr_t)&limit >= (uintptr_t)lowest && (uintptr_t)&limit < (uintptr_t)lowest + bytes);
    unsigned long kilobytes = 0, stack = listed("/proc/self/smaps", &kilobytes);
    CHECK(stack >= 128 << 10 && stack <= limit.rlim_cur && kilobytes == stack >> 10);
    CHECK(listed("/proc/thread-self/maps", &kilobytes) == stack);
    pthread_attr_destroy(&attributes);
}


int main(int argc, char **argv) {
    if (argc == 1) {
        struct rlimit limit = {2 << 20, 64 << 20};
        CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
        execl("/proc/self/exe", argv[0], "again", NULL);
        CHECK(0);
    }
    look();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        look();
        _exit(3);
    }
    expect_exit(child, 3);
    puts("as large as the limit");
    return 0;
}

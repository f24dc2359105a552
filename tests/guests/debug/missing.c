/* A thread provides the pages that the main thread touches (userfaultfd). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ul

static int uffd;

static void *provide(void *arg) {
    static char page[PAGE];
    struct uffd_msg message;
    for (char with = 'a'; read(uffd, &message, sizeof message) == sizeof message; with++) {
        memset(page, with, sizeof page);
        struct uffdio_copy copy = {message.arg.pagefault.address, (uintptr_t)page, PAGE, 0, 0};
        if (ioctl(uffd, UFFDIO_COPY, &copy) != 0) {
            abort();
        }
    }
    return arg;
}

int main(void) {
    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API};
    char *area = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = {{(uintptr_t)area, 3 * PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};
    pthread_t thread;
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0 || ioctl(uffd, UFFDIO_REGISTER, &range) != 0 ||
        pthread_create(&thread, NULL, provide, NULL) != 0) {
        puts("userfaultfd is not available here");
        return 0;
    }
    char seen[4] = "";
    for (int i = 0; i < 3; i++) {
        seen[i] = area[i * PAGE]; // touch
    }
    area[2 * PAGE] = 'z'; // write
    puts(seen);
    return 0;
}

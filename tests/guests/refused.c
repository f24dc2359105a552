/* Calls that a recording refuses return ENOSYS, as on a kernel without them: programs fall back. */
#include "guest.h"
#include <linux/aio_abi.h>

int main(void) {
    char params[256];
    memset(params, 0, sizeof params);
    long fd = syscall(SYS_io_uring_setup, 4, params);
    int uring = fd < 0 ? errno : 0;
    aio_context_t context = 0;
    long aio = syscall(SYS_io_setup, 4, &context) < 0 ? errno : 0;
    long uffd = syscall(SYS_userfaultfd, O_CLOEXEC) < 0 ? errno : 0;
    if (recorded()) {
        CHECK(uring == ENOSYS);
        CHECK(aio == ENOSYS);
        CHECK(uffd == ENOSYS);
    }
    printf("io_uring_setup %d io_setup %ld userfaultfd %ld\n", uring, aio, uffd);
    return 0;
}

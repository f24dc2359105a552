/* Calls that a recording refuses return ENOSYS, as on a kernel without them: programs fall back. */
#include "guest.h"

int main(void) {
    char params[256];
    memset(params, 0, sizeof params);
    long fd = syscall(SYS_io_uring_setup, 4, params);
    int uring = fd < 0 ? errno : 0;
    if (recorded()) {
        CHECK(uring == ENOSYS);
    }
    printf("io_uring_setup %d\n", uring);
    return 0;
}

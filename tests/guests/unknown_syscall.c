/* A call that no kernel has answers ENOSYS, and the program goes on. */
#include "guest.h"

int main(void) {
    for (int i = 0; i < 3; i++) {
        errno = 0;
        CHECK(syscall(2000 + i, 1, 2, 3) == -1);
        CHECK(errno == ENOSYS);
    }
    errno = 0;
    CHECK(syscall(-5) == -1);
    CHECK(errno == ENOSYS);
    puts("went on");
    return 0;
}

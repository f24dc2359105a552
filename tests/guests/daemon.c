// guest: special
/* The first process ends at once; its child continues for a while and writes a last line (for `record
 * -w`). */
#include "guest.h"

int main(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(setsid() == getpid());
        pid_t second = fork();
        CHECK(second >= 0);
        if (second == 0) {
            for (int i = 0; i < 10; i++) {
                sleep_ms(10);
                dprintf(1, "daemon %d: %d\n", getpid(), i);
            }
            dprintf(1, "daemon done\n");
            _exit(9);
        }
        _exit(0);
    }
    expect_exit(child, 0);
    dprintf(1, "first process leaves\n");
    return 4;
}

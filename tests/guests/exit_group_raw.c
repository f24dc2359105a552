// guest: exit=7
/* Only the low eight bits of a status count; no atexit handler runs after a raw exit_group. */
#include "guest.h"

static void never(void) {
    write_all(1, "atexit ran\n", 11);
}

int main(void) {
    atexit(never);
    write_all(1, "leaving\n", 8);
    syscall(SYS_exit_group, 0x12345607);
    return 1;
}

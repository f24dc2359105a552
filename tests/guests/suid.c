// guest: special
/* A set-user-ID program says as whom it runs. */
#include "guest.h"

int main(void) {
    printf("uid %d, euid %d\n", (int)getuid(), (int)geteuid());
    return 0;
}

// guest: special
/* A set-user-ID program prints the user that it runs as. */
#include "guest.h"

int main(void) {
    printf("uid %d, euid %d\n", (int)getuid(), (int)geteuid());
    return 0;
}

// guest: exit=7
/* A status other than 0 comes back from the recording. */
#include "guest.h"

int main(void) {
    printf("pid %d leaves with 7\n", getpid());
    return 7;
}

// guest: special
/* Leaks 1,234 bytes, which a leak checker finds. */
#include "guest.h"

int main(void) {
    char *volatile lost = malloc(1234);
    CHECK(lost != NULL);
    memset(lost, 1, 1234);
    lost = NULL;
    char *volatile kept = malloc(10);
    CHECK(kept != NULL);
    free(kept);
    return 0;
}

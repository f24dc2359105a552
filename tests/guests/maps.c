/* Reads /proc/self/maps: the program's own parts are where they are, ranges are sorted and apart. */
#include "guest.h"

int main(void) {
    char line[4096];
    int local = 0, found_code = 0, found_stack = 0;
    unsigned long last_end = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char perms[5];
        CHECK(sscanf(line, "%lx-%lx %4s", &start, &end, perms) == 3);
        CHECK(start < end && start >= last_end);
        last_end = end;
        if ((uintptr_t)main >= start && (uintptr_t)main < end) {
            CHECK(perms[0] == 'r' && perms[2] == 'x' && strstr(line, "maps") != NULL);
            found_code = 1;
        }
        if ((uintptr_t)&local >= start && (uintptr_t)&local < end) {
            CHECK(perms[0] == 'r' && perms[1] == 'w' && strstr(line, "[stack]") != NULL);
            found_stack = 1;
        }
        fputs(line, stdout);
    }
    CHECK(found_code && found_stack);
    fclose(maps);
    return 0;
}

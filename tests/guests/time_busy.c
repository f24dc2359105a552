/* Ten thousand clock readings in a row, their sum and smallest step printed. */
#include "guest.h"

int main(void) {
    struct timespec last, now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &last) == 0);
    uint64_t sum = 0, smallest = UINT64_MAX;
    for (int i = 0; i < 2000; i++) {
        CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
        uint64_t step = (uint64_t)(now.tv_sec - last.tv_sec) * 1000000000u + (uint64_t)now.tv_nsec -
                        (uint64_t)last.tv_nsec;
        CHECK((int64_t)step >= 0);
        sum = sum * 31 + step;
        smallest = step < smallest ? step : smallest;
        last = now;
    }
    printf("%016llx smallest %llu ns\n", (unsigned long long)sum, (unsigned long long)smallest);
    return 0;
}

/* All ways to ask for the time; clocks do not run backwards. */
#include "guest.h"
#include <sys/time.h>
#include <sys/times.h>

int main(void) {
    static const clockid_t clocks[] = {CLOCK_REALTIME,      CLOCK_MONOTONIC,        CLOCK_PROCESS_CPUTIME_ID,
                                       CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                                       CLOCK_MONOTONIC_COARSE,  CLOCK_BOOTTIME,      CLOCK_TAI};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        struct timespec first, second, resolution;
        CHECK(clock_gettime(clocks[i], &first) == 0);
        CHECK(clock_gettime(clocks[i], &second) == 0);
        CHECK(clock_getres(clocks[i], &resolution) == 0);
        CHECK(second.tv_sec > first.tv_sec ||
              (second.tv_sec == first.tv_sec && second.tv_nsec >= first.tv_nsec));
        printf("clock %d: %ld.%09ld, then %ld.%09ld, resolution %ld ns\n", clocks[i], (long)first.tv_sec,
               first.tv_nsec, (long)second.tv_sec, second.tv_nsec, resolution.tv_nsec);
    }
    struct timeval tv;
    CHECK(gettimeofday(&tv, NULL) == 0);
    time_t now = time(NULL);
    /* time() uses the coarse clock, which is up to a tick late: so in the first ms of a second it
     * returns the previous second. */
    CHECK(now >= tv.tv_sec - 1 && now <= tv.tv_sec + 60);
    struct tms tms;
    printf("%ld.%06ld %ld %ld %ld\n", (long)tv.tv_sec, (long)tv.tv_usec, (long)now, (long)times(&tms),
           (long)tms.tms_utime);
    struct tm local;
    char text[64];
    CHECK(localtime_r(&now, &local) != NULL);
    CHECK(strftime(text, sizeof text, "%F %T %z", &local) > 0);
    puts(text);
    return 0;
}

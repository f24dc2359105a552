// guest: special
/* The number of CPUs, from all sources that report it. */
#include "guest.h"
#include <sched.h>

int main(void) {
    unsigned char mask[128] = {0};
    long got = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    CHECK(got > 0);
    int count = 0;
    for (long i = 0; i < got * 8; i++) {
        count += mask[i / 8] >> (i % 8) & 1;
    }
    char list[64] = "";
    int fd = open("/sys/devices/system/cpu/online", O_RDONLY);
    CHECK(fd >= 0 && read(fd, list, sizeof list - 1) > 0);
    int cpu = sched_getcpu();
    CHECK(cpu >= 0 && cpu < sysconf(_SC_NPROCESSORS_ONLN));
    printf("%d %ld %ld %s", count, sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_NPROCESSORS_CONF), list);

    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
    CPU_ZERO(&set);
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    CHECK(CPU_COUNT(&set) == 1 && CPU_ISSET(0, &set));
    CPU_ZERO(&set);
    CPU_SET(1000, &set);
    CHECK(sched_setaffinity(0, sizeof set, &set) == -1 && errno == EINVAL);
    return 0;
}

/* Facts about machine and process by system call. */
#include "guest.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

int main(void) {
    struct utsname uts;
    CHECK(uname(&uts) == 0);
    printf("%s %s %s %s %s\n", uts.sysname, uts.nodename, uts.release, uts.version, uts.machine);
    struct sysinfo info;
    CHECK(sysinfo(&info) == 0);
    printf("up %ld free %lu procs %d\n", info.uptime, info.freeram, info.procs);
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    printf("utime %ld.%06ld maxrss %ld minflt %ld\n", (long)usage.ru_utime.tv_sec, (long)usage.ru_utime.tv_usec,
           usage.ru_maxrss, usage.ru_minflt);
    CHECK(getrusage(RUSAGE_CHILDREN, &usage) == 0);
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    printf("%d cpus, on %d, %ld online\n", CPU_COUNT(&set), sched_getcpu(), sysconf(_SC_NPROCESSORS_ONLN));
    CHECK(CPU_COUNT(&set) >= 1);
    for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
        struct rlimit limit;
        CHECK(getrlimit((__rlimit_resource_t)resource, &limit) == 0);
        printf("limit %d: %lu %lu\n", resource, (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
    }
    struct rlimit files = {64, 64}, old;
    CHECK(prlimit(0, RLIMIT_NOFILE, &files, &old) == 0);
    CHECK(dup2(1, 100) == -1 && errno == EBADF);
    struct statfs fs;
    CHECK(statfs(".", &fs) == 0);
    printf("fs %lx bfree %lu\n", (long)fs.f_type, (unsigned long)fs.f_bfree);
    char name[16] = "";
    CHECK(prctl(PR_SET_NAME, "renamed") == 0);
    CHECK(prctl(PR_GET_NAME, name) == 0);
    CHECK(strcmp(name, "renamed") == 0);
    CHECK(getpriority(PRIO_PROCESS, 0) >= -20);
    CHECK(sched_yield() == 0);
    printf("umask %o\n", (unsigned)umask(022));
    return 0;
}

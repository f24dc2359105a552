/* Files under /proc that describe the process itself. */
#include "guest.h"

static void show(const char *path) {
    char buffer[8192];
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t n, total = 0;
    while ((n = read(fd, buffer, sizeof buffer)) > 0) {
        write_all(1, buffer, (size_t)n);
        total += n;
    }
    CHECK(n == 0);
    dprintf(1, "\n(%s: %ld bytes)\n", path, (long)total);
    close(fd);
}

int main(void) {
    show("/proc/self/stat");
    show("/proc/self/statm");
    show("/proc/self/status");
    show("/proc/self/cmdline");
    show("/proc/self/limits");
    show("/proc/self/comm");
    show("/proc/uptime");
    show("/proc/loadavg");
    show("/proc/meminfo");
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    CHECK(n > 0);
    exe[n] = 0;
    CHECK(strstr(exe, "proc_self") != NULL);
    dprintf(1, "exe %s\n", exe);
    return 0;
}

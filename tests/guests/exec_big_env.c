/* 100 KB of environment and 2,000 arguments through an exec. */
#include "guest.h"

extern char **environ;

int main(int argc, char **argv) {
    if (argc > 1) {
        uint64_t hash = 0;
        size_t total = 0;
        for (int i = 1; i < argc; i++) {
            hash = hash * 31 + checksum(argv[i], strlen(argv[i]));
        }
        for (char **e = environ; *e; e++) {
            hash = hash * 31 + checksum(*e, strlen(*e));
            total += strlen(*e);
        }
        CHECK(argc == 2001 && total >= 100000);
        printf("%d arguments, %zu bytes of environment, %016llx\n", argc, total, (unsigned long long)hash);
        return 0;
    }
    uint64_t seed = fresh_seed();
    static char *args[2002], *env[102], names[2000][12], values[100][1024];
    args[0] = argv[0];
    for (int i = 0; i < 2000; i++) {
        snprintf(names[i], sizeof names[i], "%u", (unsigned)next_random(&seed));
        args[i + 1] = names[i];
    }
    for (int i = 0; i < 100; i++) {
        int n = snprintf(values[i], 32, "V%d=", i);
        memset(values[i] + n, 'a' + i % 26, sizeof values[i] - (size_t)n - 1);
        env[i] = values[i];
    }
    execve("/proc/self/exe", args, env);
    CHECK(!"exec failed");
}

// guest: special
/* Two thousand short processes, up to five at a time. */
#include "guest.h"

int main(void) {
    int status, running = 0;
    uint64_t sum = 0;
    for (int i = 0; i < 2000; i++) {
        if (running == 5) {
            CHECK(wait(&status) > 0 && WIFEXITED(status));
            sum += (uint64_t)WEXITSTATUS(status);
            running--;
        }
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            _exit(i % 100);
        }
        running++;
    }
    while (running-- > 0) {
        CHECK(wait(&status) > 0 && WIFEXITED(status));
        sum += (uint64_t)WEXITSTATUS(status);
    }
    CHECK(sum == 2000 / 100 * 4950 && wait(NULL) == -1 && errno == ECHILD);
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}

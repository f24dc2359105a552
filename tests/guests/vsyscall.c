// guest: special
/* A child asks for the time as programs did long ago, by the vsyscall page. */
#include "guest.h"

int main(void) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        time_t (*time_of_old)(time_t *) = (time_t (*)(time_t *))0xffffffffff600400;
        CHECK(time_of_old(NULL) > 1000000000);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    printf("status %x at %ld\n", status, (long)time(NULL));
    return 0;
}

/* process_vm_writev and process_vm_readv into a child's memory. */
#include "guest.h"
#include <sys/uio.h>

static volatile uint64_t word;

int main(void) {
    int ready[2], go[2];
    CHECK(pipe(ready) == 0 && pipe(go) == 0);
    uint64_t value = fresh_seed();
    pid_t child = fork();
    CHECK(child >= 0);
    char byte;
    if (child == 0) {
        word = 5;
        write_all(ready[1], "r", 1);
        read_all(go[0], &byte, 1);
        CHECK(word == value);
        dprintf(1, "child has %016llx\n", (unsigned long long)word);
        _exit(0);
    }
    read_all(ready[0], &byte, 1);
    uint64_t got = 0;
    struct iovec local = {&got, sizeof got}, remote = {(void *)(uintptr_t)&word, sizeof word};
    CHECK(process_vm_readv(child, &local, 1, &remote, 1, 0) == sizeof got && got == 5);
    local.iov_base = &value;
    if (process_vm_writev(child, &local, 1, &remote, 1, 0) != sizeof value) {
        CHECK(recorded() && errno == ENOSYS); /* may be refused */
        CHECK(kill(child, SIGKILL) == 0);
        expect_death(child, SIGKILL);
        return 0;
    }
    write_all(go[1], "g", 1);
    expect_exit(child, 0);
    CHECK(word == 0);
    return 0;
}

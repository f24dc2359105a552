/* vfork in progress: the child makes calls, writes the memory that it shares with its parent, and waits
 * for a child of its own, while the parent waits and the parent's other thread runs in the same address
 * space. */
#include "guest.h"
#include <pthread.h>
#include <sys/mman.h>

static unsigned char memory[8 * 4096];
static volatile int turn;

static void *other(void *argument) {
    uint64_t seed = fresh_seed();
    /* Continues beside the child: only the thread that has called vfork waits. */
    for (int i = 0; i < 20; i++) {
        memory[4096 + next_random(&seed) % 4096]++;
        getppid();
    }
    return argument;
}

int main(void) {
    uint64_t seed = fresh_seed();
    int pipe_ends[2];
    CHECK(pipe2(pipe_ends, O_CLOEXEC) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, other, NULL) == 0);
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 10; i++) {
            memory[next_random(&seed) % 4096]++;
            turn++;
            getppid();
        }
        /* An ordinary child of the vforked one: a copy of the memory as it is now. */
        pid_t grandchild = (pid_t)syscall(SYS_fork);
        if (grandchild == 0) {
            memory[3 * 4096] = 9;
            char byte = 'g';
            write_all(pipe_ends[1], &byte, 1);
            _exit(turn);
        }
        char byte;
        read_all(pipe_ends[0], &byte, 1);
        int status;
        if (syscall(SYS_wait4, grandchild, &status, 0, NULL) != grandchild || WEXITSTATUS(status) != 10) {
            _exit(98);
        }
        turn = 77;
        _exit(5);
    }
    expect_exit(child, 5);
    CHECK(turn == 77 && memory[3 * 4096] == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    printf("%016llx\n", (unsigned long long)checksum(memory, 4096));
    return 0;
}

/* Futexes between processes in shared memory: wait, wake, timeout, wrong value. */
#include "guest.h"
#include <linux/futex.h>
#include <sys/mman.h>

static long futex(volatile int *word, int operation, int value, const struct timespec *limit) {
    return syscall(SYS_futex, word, operation, value, limit, NULL, 0);
}

int main(void) {
    volatile int *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(words != MAP_FAILED);
    struct timespec limit = {0, 5000000};
    CHECK(futex(words, FUTEX_WAIT, 1, NULL) == -1 && errno == EAGAIN);
    CHECK(futex(words, FUTEX_WAIT, 0, &limit) == -1 && errno == ETIMEDOUT);
    CHECK(futex(words, FUTEX_WAKE, 10, NULL) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 30; i++) {
            while (words[0] == i) {
                futex(words, FUTEX_WAIT, i, NULL);
            }
            words[1] = i + 1;
            futex(words + 1, FUTEX_WAKE, 1, NULL);
        }
        _exit(0);
    }
    for (int i = 0; i < 30; i++) {
        words[0] = i + 1;
        futex(words, FUTEX_WAKE, 1, NULL);
        while (words[1] == i) {
            futex(words + 1, FUTEX_WAIT, i, NULL);
        }
    }
    expect_exit(child, 0);
    printf("%d with %d\n", getpid(), child);
    return 0;
}

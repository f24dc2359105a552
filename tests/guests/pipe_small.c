// guest: heavy
/* A thousand one-line questions and answers over two pipes, every read blocking. */
#include "guest.h"

int main(void) {
    int ask[2], answer[2];
    CHECK(pipe(ask) == 0 && pipe2(answer, O_CLOEXEC) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(ask[1]);
        close(answer[0]);
        uint64_t value;
        ssize_t n;
        while ((n = read(ask[0], &value, sizeof value)) == (ssize_t)sizeof value) {
            value = value * 3 + (uint64_t)getpid();
            write_all(answer[1], &value, sizeof value);
        }
        _exit(n == 0 ? 0 : 1);
    }
    close(ask[0]);
    close(answer[1]);
    uint64_t seed = fresh_seed(), sum = 0;
    for (int i = 0; i < 300; i++) {
        uint64_t value = next_random(&seed), got;
        write_all(ask[1], &value, sizeof value);
        read_all(answer[0], &got, sizeof got);
        CHECK(got == value * 3 + (uint64_t)child);
        sum += got;
    }
    close(ask[1]);
    expect_exit(child, 0);
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}

/* Events inside of handlers: on an alternate stack, one inside the other, with calls in them. At each
 * of these events the frames and the mask belong to the state. A third handler runs in the middle of a
 * call, which then continues. */
#include "guest.h"

static char alternate[65536];
static volatile uint64_t inside;
static volatile int deepest;

static int on_alternate(void *here) {
    return (char *)here >= alternate && (char *)here < alternate + sizeof alternate;
}

static void handler(int signal, siginfo_t *info, void *context) {
    char frame[512];
    (void)context;
    uint64_t seed = (uint64_t)info->si_pid + (uint64_t)signal;
    fill_random(frame, sizeof frame, &seed);
    CHECK(on_alternate(frame));
    deepest = deepest < signal ? signal : deepest;
    for (int i = 0; i < 4; i++) {
        getppid();
        inside = inside * 31 + checksum(frame, sizeof frame);
        frame[i * 100]++;
    }
    if (signal == SIGUSR1) {
        CHECK(raise(SIGUSR2) == 0);
    }
    getppid();
    inside = inside * 31 + checksum(frame, sizeof frame);
}

int main(void) {
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    CHECK(sigaltstack(&stack, NULL) == 0);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_ONSTACK | SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGUSR2, &action, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK(deepest == SIGUSR2);
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    pid_t parent = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sleep_ms(20);
        CHECK(kill(parent, SIGUSR1) == 0);
        sleep_ms(20);
        write_all(ends[1], "x", 1);
        _exit(0);
    }
    char byte;
    CHECK(read(ends[0], &byte, 1) == 1 && byte == 'x');
    expect_exit(child, 0);
    stack_t now;
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == alternate && (now.ss_flags & SS_ONSTACK) == 0);
    printf("%016llx\n", (unsigned long long)inside);
    return 0;
}

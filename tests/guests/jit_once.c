/* A code generator that writes code once and then runs it for long. A timer interrupts the loop. */
#include "guest.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#define SIZE 4096ul
#define TICKS 3

typedef uint64_t function(uint64_t, volatile sig_atomic_t *);

static volatile sig_atomic_t ticks;

static void on_tick(int signal) {
    (void)signal;
    ticks++;
}

int main(void) {
    static const unsigned char code[] = {
        0x48, 0x89, 0xf8,                   /* mov rax, rdi */
        0x48, 0x8d, 0x04, 0x80,             /* lea rax, [rax + 4 * rax] */
        0x48, 0x05, 0x11, 0x00, 0x00, 0x00, /* add rax, 17 */
        0x83, 0x3e, TICKS,                  /* cmp dword [rsi], TICKS */
        0x7c, 0xf1,                         /* jl lea */
        0xc3,
    };
    unsigned char *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGVTALRM, &action, NULL) == 0);
    struct itimerval each = {.it_interval = {0, 50000}, .it_value = {0, 50000}};
    CHECK(setitimer(ITIMER_VIRTUAL, &each, NULL) == 0);
    memcpy(at, code, sizeof code);
    function *loop;
    memcpy(&loop, &at, sizeof loop);
    printf("%llu\n", (unsigned long long)loop(1, &ticks));
    return 0;
}

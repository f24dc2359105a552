/* A code generator that writes code while that code runs, without calls in between: a loop is
 * generated, run, patched and generated again over and over, directly and through a second mapping. A
 * timer interrupts it at any place. */
// guest: special
#include "guest.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#define SIZE 4096ul

typedef uint64_t function(uint64_t);

static volatile sig_atomic_t ticks;

static void on_tick(int signal) {
    (void)signal;
    ticks++;
}

/* rax = rdi; do { rax = rax * 5 + value; } while (--ecx); ret */
static void generate(unsigned char *at, uint32_t value) {
    static const unsigned char code[] = {
        0x48, 0x89, 0xf8,             /* mov rax, rdi */
        0xb9, 0x00, 0x00, 0x01, 0x00, /* mov ecx, 65536 */
        0x48, 0x8d, 0x04, 0x80,       /* lea rax, [rax + 4 * rax] */
        0x48, 0x05, 0, 0, 0, 0,       /* add rax, value */
        0xff, 0xc9,                   /* dec ecx */
        0x75, 0xf2,                   /* jne lea */
        0xc3,
    };
    /* Byte by byte, as simple assemblers do. */
    for (size_t n = 0; n < sizeof code; n++) {
        ((volatile unsigned char *)at)[n] = code[n];
    }
    memcpy(at + 14, &value, 4);
}

static uint64_t call(unsigned char *at, uint64_t x) {
    function *code;
    memcpy(&code, &at, sizeof code);
    return code(x);
}

int main(void) {
    unsigned char *own = mmap(NULL, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(own != MAP_FAILED);
    int fd = memfd_create("code", 0);
    CHECK(fd >= 0 && ftruncate(fd, SIZE) == 0);
    unsigned char *writable = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *executable = mmap(NULL, SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    CHECK(writable != MAP_FAILED && executable != MAP_FAILED);
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGVTALRM, &action, NULL) == 0);
    struct itimerval often = {.it_interval = {0, 3000}, .it_value = {0, 3000}};
    CHECK(setitimer(ITIMER_VIRTUAL, &often, NULL) == 0);
    uint64_t x = 1;
    for (uint32_t n = 0; ticks < 5; n++) {
        size_t at = n % 7 * 64;
        generate(own + at, n);
        x = call(own + at, x);
        generate(writable + at, n);
        x = call(executable + at, x);
        /* Only a part of an instruction. */
        uint32_t value = ~n;
        memcpy(own + at + 14, &value, 4);
        x = call(own + at, x);
    }
    printf("%d\n", x != 0);
    return 0;
}

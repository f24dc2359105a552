/* The main stack has exactly the size of its limit, to the page, and an access beyond it faults: caught
 * on another stack, and not caught. */
#include "guest.h"
#include <setjmp.h>
#include <sys/resource.h>

static char other[64 << 10];
static sigjmp_buf back;
static volatile uintptr_t fault;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    fault = (uintptr_t)info->si_addr;
    siglongjmp(back, 1);
}

static uintptr_t stack_end(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long start, end = 0;
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        if (strstr(line, "[stack]") != NULL) {
            CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2);
        }
    }
    fclose(maps);
    CHECK(end != 0);
    return end;
}

/* Touches page after page downwards. */
static void descend(void) {
    char here;
    for (volatile char *at = &here;; at -= 4096) {
        *at = 1;
    }
}

static void overflow(void) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
    uintptr_t end = stack_end();
    stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    if (sigsetjmp(back, 1) == 0) {
        descend();
    }
    printf("%zu pages of %zu\n", (size_t)((end - fault) >> 12), (size_t)limit.rlim_cur >> 12);
    CHECK((end - fault + 4095) >> 12 == (limit.rlim_cur >> 12) + 1);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        descend();
    }
    expect_death(child, SIGSEGV);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        overflow();
        return 0;
    }
    static const unsigned long limits[] = {8 << 20, 1 << 20, (3 << 20) + 5000};
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            struct rlimit limit = {limits[i], limits[i]};
            CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
            execv("/proc/self/exe", (char *[]){argv[0], "again", NULL});
            _exit(1);
        }
        expect_exit(child, 0);
    }
    return 0;
}

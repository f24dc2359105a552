/* cpuid wherever a program can execute it: in code that the program makes itself, in a loop, in a child, after exec, in
 * threads, in a signal handler, while SIGSEGV is blocked or ignored. All of them get the same answers. */
#include "guest.h"
#include <cpuid.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct answer {
    uint32_t a, b, c, d;
};

/* Natively a thread moves to other CPUs, whose number is a part of leaf 1. Transactions and waiting (leaf 7) are not
 * shown to code that rr can prove. */
static struct answer without_number(uint32_t leaf, struct answer answer) {
    answer.b &= leaf == 1 ? 0xffffff : ~0u;
    if (leaf == 7) {
        answer.b &= ~(1u << 4 | 1u << 11);
        answer.c &= ~(1u << 5);
        answer.d &= ~(1u << 16);
    }
    return answer;
}

static struct answer ask(uint32_t leaf, uint32_t sub) {
    struct answer answer;
    __cpuid_count(leaf, sub, answer.a, answer.b, answer.c, answer.d);
    return without_number(leaf, answer);
}

static struct answer (*made)(uint32_t, uint32_t, struct answer *);

/* made(leaf, sub, to): the code is written and executed in the same interval the first time. */
static void make(void) {
    /* push rbx; mov r8, rdx; mov eax, edi; mov ecx, esi; cpuid; mov [r8], eax; mov [r8+4], ebx; mov [r8+8], ecx;
     * mov [r8+12], edx; pop rbx; ret */
    static const unsigned char code[] = {0x53, 0x49, 0x89, 0xd0, 0x89, 0xf8, 0x89, 0xf1, 0x0f, 0xa2,
                                         0x41, 0x89, 0x00, 0x41, 0x89, 0x58, 0x04, 0x41, 0x89, 0x48,
                                         0x08, 0x41, 0x89, 0x50, 0x0c, 0x5b, 0xc3};
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    memcpy(at, code, sizeof code);
    memcpy(&made, &at, sizeof made);
}

static struct answer ask_made(uint32_t leaf, uint32_t sub) {
    struct answer answer;
    void (*call)(uint32_t, uint32_t, struct answer *);
    memcpy(&call, &made, sizeof call);
    call(leaf, sub, &answer);
    return without_number(leaf, answer);
}

static int same(struct answer x, struct answer y) {
    return x.a == y.a && x.b == y.b && x.c == y.c && x.d == y.d;
}

static const uint32_t leaves[][2] = {{0, 0}, {0, 7}, {1, 0}, {4, 0}, {4, 1}, {7, 0}, {0xd, 0}, {0xd, 1}, {0x80000000u, 0},
                                     {0x80000002u, 3}, {0x80000008u, 0}, {0x12345678, 0}};
enum { LEAVES = sizeof leaves / sizeof *leaves };
static struct answer first[LEAVES];

static void check_all(void) {
    for (int i = 0; i < LEAVES; i++) {
        CHECK(same(ask(leaves[i][0], leaves[i][1]), first[i]));
    }
}

static volatile int handled;

static void handler(int signo) {
    (void)signo;
    check_all();
    CHECK(same(ask_made(0, 0), first[0]));
    handled++;
}

static void *thread(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++) {
        check_all();
        CHECK(same(ask_made(0, 0), first[0]));
    }
    return NULL;
}

int main(int argc, char **argv) {
    make();
    struct answer unknown = ask_made(0, 0);
    for (int i = 0; i < LEAVES; i++) {
        first[i] = ask(leaves[i][0], leaves[i][1]);
        CHECK(same(ask_made(leaves[i][0], leaves[i][1]), first[i]));
    }
    CHECK(same(unknown, first[0]));
    if (argc > 1) {
        printf("after exec: %u leaves agree\n", (unsigned)LEAVES);
        return 0;
    }
    check_all();

    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int i = 0; i < 3; i++) {
        raise(SIGUSR1);
    }
    CHECK(handled == 3);

    /* A blocked or ignored SIGSEGV is neither noticed nor changed. */
    sigset_t set, now;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    CHECK(signal(SIGSEGV, SIG_IGN) == SIG_DFL);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    check_all();
    CHECK(same(ask_made(0, 0), first[0]));
    CHECK(sigprocmask(SIG_UNBLOCK, &set, &now) == 0 && sigismember(&now, SIGSEGV));
    check_all();
    CHECK(same(ask_made(0, 0), first[0]));
    CHECK(signal(SIGSEGV, SIG_DFL) == SIG_IGN);

    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, thread, NULL) == 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            check_all();
            CHECK(same(ask_made(0, 0), first[0]));
            if (i == 1) {
                execl(argv[0], argv[0], "again", (char *)NULL);
                _exit(9);
            }
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    printf("%u leaves agree everywhere\n", (unsigned)LEAVES);
    return 0;
}

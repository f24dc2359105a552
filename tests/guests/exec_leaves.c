/* A task that executes another program leaves its memory: the kernel marks the robust locks that the
 * task held, in memory that other processes see, and clears the task's child-tid word
 * (CLONE_CHILD_CLEARTID) if another process uses that memory, too. */
#include "guest.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

static char stack[64 << 10];
static volatile int words[3] = {11, 12, 13};
static char **arguments;

static int execute(void *arg) {
    (void)arg;
    execv("/proc/self/exe", arguments);
    return 1;
}

static int execute_nothing(void *arg) {
    (void)arg;
    execv("/nowhere", arguments);
    return 3;
}

static void look(void) {
    printf("%d %d %d\n", words[0], words[1], words[2]);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        if (strcmp(argv[1], "stay") == 0) {
            write_all(3, "x", 1);
            pause();
        }
        return 4;
    }
    char *leave[] = {argv[0], "leave", NULL}, *stay[] = {argv[0], "stay", NULL};
    arguments = leave;
    int flags = CLONE_VM | CLONE_VFORK | CLONE_CHILD_CLEARTID | SIGCHLD;
    pid_t child = clone(execute, stack + sizeof stack, flags, NULL, NULL, NULL, &words[0]);
    CHECK(child > 0 && words[0] == 0);
    expect_exit(child, 4);
    look();
    /* A failing exec clears nothing; the word is cleared at the end of the task. */
    child = clone(execute_nothing, stack + sizeof stack, flags, NULL, NULL, NULL, &words[1]);
    CHECK(child > 0 && words[1] == 0);
    expect_exit(child, 3);
    look();
    CHECK(words[2] == 13);

    pthread_mutex_t *locks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(locks != MAP_FAILED);
    pthread_mutexattr_t attributes;
    CHECK(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_setpshared(&attributes, 1) == 0);
    CHECK(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(&locks[0], &attributes) == 0 && pthread_mutex_init(&locks[1], &attributes) == 0);
    int ends[2];
    CHECK(pipe(ends) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(pthread_mutex_lock(&locks[1]) == 0 && pthread_mutex_lock(&locks[0]) == 0);
        if (ends[1] != 3) {
            CHECK(dup2(ends[1], 3) == 3);
        }
        arguments = stay;
        execute(NULL);
        _exit(1);
    }
    char byte;
    read_all(ends[0], &byte, 1);
    /* The process lives, but no longer holds the locks. */
    CHECK(kill(child, 0) == 0);
    int got[2] = {pthread_mutex_trylock(&locks[0]), pthread_mutex_trylock(&locks[1])};
    printf("%d %d\n", got[0], got[1]);
    CHECK(got[0] == EOWNERDEAD && got[1] == EOWNERDEAD);
    printf("%016llx\n", (unsigned long long)checksum(locks, 4096));
    CHECK(kill(child, SIGKILL) == 0);
    expect_death(child, SIGKILL);
    return 0;
}

/* READ_IMPLIES_EXEC (personality(2)): memory that is mapped or made readable can be executed, whatever maps it. Threads and
 * children inherit that, and execve ends it. */
// guest: cflags=-pthread
#include "guest.h"
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/shm.h>

enum { PAGE = 4096 };

/* mov eax, VALUE; ret */
static void write_code(void *at, int value) {
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xc3};
    memcpy(code + 1, &value, sizeof value);
    memcpy(at, code, sizeof code);
}

static int run(void *at) { return ((int (*)(void))at)(); }

static void check_code(void *at, int value) {
    CHECK(at != MAP_FAILED);
    write_code(at, value);
    CHECK(run(at) == value);
}

static void *map(int prot, int flags, int fd) { return mmap(NULL, 2 * PAGE, prot, flags, fd, 0); }

/* Returns the signal that ends a child which executes this memory; 0 for none. */
static int signal_of(void *at) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run(at);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void everywhere(int value) {
    check_code(map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1), value);
    check_code(map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1), value + 1);

    char *later = map(PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    CHECK(mprotect(later, PAGE, PROT_READ | PROT_WRITE) == 0);
    check_code(later, value + 2);
    CHECK(mprotect(later, PAGE, PROT_READ) == 0);
    CHECK(run(later) == value + 2);

    int file = memfd_create("code", 0);
    CHECK(file >= 0 && ftruncate(file, 2 * PAGE) == 0);
    check_code(map(PROT_READ | PROT_WRITE, MAP_SHARED, file), value + 3);
    void *again = map(PROT_READ, MAP_PRIVATE, file);
    CHECK(again != MAP_FAILED && run(again) == value + 3);

    int segment = shmget(IPC_PRIVATE, PAGE, 0600);
    CHECK(segment >= 0);
    check_code(shmat(segment, NULL, 0), value + 4);
    CHECK(shmctl(segment, IPC_RMID, NULL) == 0);

    char *heap = sbrk(2 * PAGE);
    CHECK(heap != (void *)-1);
    check_code(heap + PAGE, value + 5);

    char *moved = mremap(later, PAGE, 4 * PAGE, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && run(moved) == value + 2);
    CHECK(mprotect(moved, 4 * PAGE, PROT_READ | PROT_WRITE) == 0);
    check_code(moved + 3 * PAGE, value + 6);
}

static void *in_thread(void *value) {
    everywhere(*(int *)value);
    return NULL;
}

int main(int count, char **args) {
    unsigned asked = 0xffffffff;
    if (count > 1) {
        CHECK(!(personality(asked) & READ_IMPLIES_EXEC));
        void *plain = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        CHECK(plain != MAP_FAILED);
        write_code(plain, 1);
        CHECK(signal_of(plain) == SIGSEGV);
        printf("executed %d\n", getpid());
        return 0;
    }
    unsigned before = personality(asked);
    CHECK(personality(before | READ_IMPLIES_EXEC) == (int)before);
    everywhere(100);
    pthread_t thread;
    int value = 200;
    CHECK(pthread_create(&thread, NULL, in_thread, &value) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        everywhere(300);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);

    void *kept = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    CHECK(personality(before) == (int)(before | READ_IMPLIES_EXEC));
    check_code(kept, 400);
    void *plain = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    write_code(plain, 1);
    CHECK(signal_of(plain) == SIGSEGV);

    CHECK(personality(before | READ_IMPLIES_EXEC) == (int)before);
    printf("implied %d\n", getpid());
    fflush(stdout);
    execl("/proc/self/exe", args[0], "again", NULL);
    CHECK(!"execl");
}

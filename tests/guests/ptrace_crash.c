/* A crash handler like that of breakpad: the handler of SIGSEGV forks; the child attaches to all
 * threads of its parent, reads their registers and stacks, and detaches; then the parent dies of the
 * signal or, in this guest, continues. */
#include "guest.h"
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

static sigjmp_buf back;
static long secret = 0x5ec4e7;
static int gate[2];

static void *wait_in_thread(void *unused) {
    char byte;
    CHECK(read(gate[0], &byte, 1) == 1);
    return unused;
}

static void *spin_in_thread(void *stop) {
    while (!*(volatile int *)stop) {
        sched_yield();
    }
    return NULL;
}

static int dump(pid_t parent) {
    pid_t threads[16];
    int count = 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", parent);
    DIR *list = opendir(path);
    CHECK(list != NULL);
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        if (entry->d_name[0] != '.') {
            threads[count++] = atoi(entry->d_name);
        }
    }
    closedir(list);
    for (int i = 0; i < count; i++) {
        CHECK(ptrace(PTRACE_ATTACH, threads[i], 0, 0) == 0);
        int status;
        CHECK(waitpid(threads[i], &status, __WALL) == threads[i]);
        CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    }
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        struct user_regs_struct regs;
        CHECK(ptrace(PTRACE_GETREGS, threads[i], 0, &regs) == 0);
        for (int n = 0; n < 8; n++) {
            errno = 0;
            long word = ptrace(PTRACE_PEEKDATA, threads[i], regs.rsp + 8 * n, 0);
            CHECK(errno == 0);
            sum = sum * 31 + (uint64_t)word;
        }
        sum ^= regs.rip;
    }
    CHECK(ptrace(PTRACE_PEEKDATA, parent, &secret, 0) == secret);
    printf("%d threads, %#lx\n", count, sum);
    for (int i = 0; i < count; i++) {
        CHECK(ptrace(PTRACE_DETACH, threads[i], 0, 0) == 0);
    }
    fflush(stdout);
    return 3;
}

static void on_crash(int signal) {
    pid_t parent = getpid();
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        read_all(ready[0], &byte, 1);
        _exit(dump(parent));
    }
    prctl(PR_SET_PTRACER, child, 0, 0, 0);
    write_all(ready[1], "r", 1);
    expect_exit(child, 3);
    close(ready[0]);
    close(ready[1]);
    siglongjmp(back, signal);
}

int main(void) {
    CHECK(pipe(gate) == 0);
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
    static volatile int stop;
    pthread_t waiting, spinning;
    CHECK(pthread_create(&waiting, NULL, wait_in_thread, NULL) == 0);
    CHECK(pthread_create(&spinning, NULL, spin_in_thread, (void *)&stop) == 0);
    CHECK(signal(SIGSEGV, on_crash) != SIG_ERR);
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(back, 1) == 0) {
            *(volatile int *)8 = 1;
        }
    }
    stop = 1;
    write_all(gate[1], "x", 1);
    CHECK(pthread_join(waiting, NULL) == 0 && pthread_join(spinning, NULL) == 0);
    puts("goes on");
    return 0;
}

// guest: special
/* All kinds of work in small processes. Any of them can be killed at any moment, or the first one with
 * all others: the recorder kills them (tests/tests/deaths.rs). No process waits for something that only
 * another process can provide, so every process that is not killed ends. */
#include "guest.h"
#include <pthread.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>

static char stack[64 << 10];
static volatile long sum;
static volatile int *shared;
static int file, other_file;

static void handler(int signal) {
    sum += signal;
}

static void maps(int fork_shares) {
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = 1;
    page = mremap(page, 8192, 65536, MREMAP_MAYMOVE);
    page[65535] = 2;
    mprotect(page, 4096, PROT_READ);
    madvise(page + 4096, 4096, MADV_DONTNEED);
    char *private = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, other_file, 0);
    private[1] = 3;
    private = mremap(private, 8192, 4096, MREMAP_MAYMOVE);
    char *common = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    common[5000]++;
    common = mremap(common, 4096, 8192, MREMAP_MAYMOVE);
    sum += private[0] + common[0];
    char *anonymous = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    anonymous[0] = 4;
    int segment = shmget(IPC_PRIVATE, 4096, 0600);
    char *attached = shmat(segment, NULL, 0);
    shmctl(segment, IPC_RMID, NULL);
    if (attached != (char *)-1) {
        attached[0] = 5;
        shmdt(attached);
    }
    if (!fork_shares) {
        brk((char *)sbrk(0) + 16384);
    }
    munmap(private, 4096);
    munmap(anonymous, 4096);
    munmap(page, 65536);
}

static void io(void) {
    int ends[2];
    char bytes[64], control[64];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        return;
    }
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    write(ends[1], "0123456789", 10);
    sum += recvmsg(ends[0], &message, 0);
    write(ends[1], "01234", 5);
    sum += read(ends[0], bytes, sizeof bytes);
    close(ends[0]);
    close(ends[1]);
    pwrite(file, "abc", 3, 4096);
    sum += pread(file, bytes, 10, 4090);
}

static void *thread(void *arg) {
    maps(0);
    io();
    return arg;
}

static int in_same_memory(void *arg) {
    maps(1);
    io();
    return arg == NULL;
}

/* Any child may have been killed already. */
static void reap(void) {
    int status;
    while (wait(&status) > 0) {
        sum += status;
    }
}

int main(int argc, char **argv) {
    if (argc > 1) {
        return 0;
    }
    char *again[] = {argv[0], "leaf", NULL};
    file = open("mortal", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0 && ftruncate(file, 8192) == 0);
    other_file = open("mortal too", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(other_file >= 0 && ftruncate(other_file, 8192) == 0);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);

    if (fork() == 0) {
        shared[0]++;
        raise(SIGUSR1);
        pthread_t other;
        if (pthread_create(&other, NULL, thread, NULL) == 0) {
            pthread_join(other, NULL);
        }
        sum += (long)__builtin_ia32_rdtsc();
        _exit((int)sum & 7);
    }
    reap();
    if (vfork() == 0) {
        shared[1]++;
        maps(1);
        io();
        execv("/proc/self/exe", again);
        _exit(1);
    }
    reap();
    clone(in_same_memory, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    maps(1);
    reap();
    if (fork() == 0) {
        pthread_t other;
        pthread_create(&other, NULL, thread, NULL);
        execv("/proc/self/exe", again);
    }
    reap();
    printf("%d %d %ld\n", shared[0], shared[1], sum);
    return 0;
}

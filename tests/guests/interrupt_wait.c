// guest: cflags=-lrt heavy
/* A signal during calls that wait for time, processes, locks, messages or other signals, with and without SA_RESTART. */
#include "interrupt.h"
#include <linux/futex.h>
#include <mqueue.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

static int word, messages, semaphores, locked, gate[2];
static mqd_t queue;
static pid_t child;

static long do_futex(void) {
    long result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return result == -1 && errno == EAGAIN ? 0 : result;
}
static long do_futex_bitset(void) {
    long result = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 5);
    return result == -1 && errno == EAGAIN ? 0 : result;
}
static long do_futex_timed(void) {
    struct timespec limit = {5, 0};
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &limit, NULL, 0);
}
/* The restarted call finds another value. */
static void change_word(void) { word = 1; }

static long do_nanosleep(void) {
    struct timespec wait = {5, 0}, rest = {0, 0};
    int result = nanosleep(&wait, &rest);
    CHECK(rest.tv_sec == 4 || rest.tv_sec == 5); /* the kernel counts the slack in */
    return result;
}
static long do_clock_nanosleep(void) {
    struct timespec until;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_sec += 5;
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    return errno ? -1 : 0;
}
static long do_pause(void) { return pause(); }
static long do_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}
static long do_sigtimedwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    struct timespec limit = {5, 0};
    return sigtimedwait(&set, NULL, &limit);
}
static long do_sigwaitinfo(void) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigwaitinfo(&set, &info);
}

static void fork_child(void) {
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        read_all(gate[0], &byte, 1);
        _exit(6);
    }
}
static void release_child(void) { CHECK(write(gate[1], "x", 1) == 1); }
static long do_wait4(void) {
    int status;
    pid_t got = waitpid(child, &status, 0);
    CHECK(got == -1 || WEXITSTATUS(status) == 6);
    return got;
}
static long do_waitid(void) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int result = waitid(P_PID, (id_t)child, &info, WEXITED);
    CHECK(result == -1 || info.si_status == 6);
    return result;
}

static long do_semop(void) {
    struct sembuf operation = {0, -1, 0};
    return semop(semaphores, &operation, 1);
}
static long do_semtimedop(void) {
    struct sembuf operation = {0, -1, 0};
    struct timespec limit = {5, 0};
    return semtimedop(semaphores, &operation, 1, &limit);
}
struct message {
    long type;
    char text[64];
};
static long do_msgrcv(void) {
    struct message message;
    return msgrcv(messages, &message, sizeof message.text, 7, 0);
}
static long do_msgsnd(void) {
    struct message message = {7, ""};
    return msgsnd(messages, &message, sizeof message.text, 0);
}
static long do_mq_receive(void) {
    char text[64];
    unsigned priority;
    return mq_receive(queue, text, sizeof text, &priority);
}
static void do_mq_send(void) { CHECK(mq_send(queue, "hello", 5, 3) == 0); }

/* A child holds the locks until it is told to end. */
static long do_flock(void) { return flock(locked, LOCK_EX); }
static long do_setlkw(void) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    return fcntl(locked, F_SETLKW, &lock);
}
static void fork_holder(int whole) {
    int held[2];
    CHECK(pipe(held) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int fd = open("lock", O_RDWR);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};
        CHECK(fd >= 0 && (whole ? flock(fd, LOCK_EX) : fcntl(fd, F_SETLK, &lock)) == 0);
        write_all(held[1], "x", 1);
        char byte;
        read_all(gate[0], &byte, 1);
        _exit(6);
    }
    char byte;
    read_all(held[0], &byte, 1);
    close(held[0]);
    close(held[1]);
}

int main(void) {
    start_sender();
    CHECK(pipe(gate) == 0);
    interrupted("futex", 1, do_futex, change_word);
    word = 0;
    interrupted("futex bitset", 1, do_futex_bitset, change_word);
    word = 0;
    interrupted("futex with a timeout", 0, do_futex_timed, NULL);
    interrupted("nanosleep", 0, do_nanosleep, NULL);
    interrupted("clock_nanosleep", 0, do_clock_nanosleep, NULL);
    interrupted("pause", 0, do_pause, NULL);
    interrupted("sigsuspend", 0, do_sigsuspend, NULL);
    interrupted("sigtimedwait", 0, do_sigtimedwait, NULL);
    interrupted("sigwaitinfo", 0, do_sigwaitinfo, NULL);

    fork_child();
    interrupted("wait4", 1, do_wait4, release_child);
    fork_child();
    interrupted("waitid", 1, do_waitid, release_child);

    semaphores = semget(IPC_PRIVATE, 1, 0600);
    CHECK(semaphores >= 0);
    interrupted("semop", 0, do_semop, NULL);
    interrupted("semtimedop", 0, do_semtimedop, NULL);
    CHECK(semctl(semaphores, 0, IPC_RMID) == 0);
    messages = msgget(IPC_PRIVATE, 0600);
    CHECK(messages >= 0);
    interrupted("msgrcv", 0, do_msgrcv, NULL);
    struct message message = {7, ""};
    while (msgsnd(messages, &message, sizeof message.text, IPC_NOWAIT) == 0) {
    }
    interrupted("msgsnd", 0, do_msgsnd, NULL);
    CHECK(msgctl(messages, IPC_RMID, NULL) == 0);
    char name[64];
    snprintf(name, sizeof name, "/guest-%d", getpid());
    struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = 64};
    queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    if (queue != (mqd_t)-1) {
        CHECK(mq_unlink(name) == 0);
        interrupted("mq_receive", 1, do_mq_receive, do_mq_send);
    }

    locked = open("lock", O_RDWR | O_CREAT, 0600);
    CHECK(locked >= 0);
    fork_holder(1);
    interrupted("flock", 1, do_flock, release_child);
    expect_exit(child, 6);
    CHECK(flock(locked, LOCK_UN) == 0);
    fork_holder(0);
    interrupted("F_SETLKW", 1, do_setlkw, release_child);
    expect_exit(child, 6);
    CHECK(unlink("lock") == 0);
    stop_sender();
    printf("%d\n", getpid());
    return 0;
}

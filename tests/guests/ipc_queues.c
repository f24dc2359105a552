// guest: cflags=-lrt
/* System V semaphores and message queues, and POSIX message queues, between processes. */
#include "guest.h"
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

struct message {
    long type;
    char text[100];
};

static void change(int set, unsigned short number, short by, short flags) {
    struct sembuf operation = {number, by, flags};
    CHECK(semop(set, &operation, 1) == 0);
}

static volatile sig_atomic_t notified;
static void on_notify(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    notified = info->si_code == SI_MESGQ ? info->si_value.sival_int : -1;
}

int main(void) {
    int set = semget(IPC_PRIVATE, 3, 0600), queue = msgget(IPC_PRIVATE, 0600);
    CHECK(set >= 0 && queue >= 0);
    unsigned short values[3] = {0, 5, 7}, seen[3];
    CHECK(semctl(set, 0, SETALL, values) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct message message;
        for (int i = 0; i < 10; i++) {
            change(set, 0, -1, 0);
            CHECK(msgrcv(queue, &message, sizeof message.text, -50, 0) == i + 1 && message.type == 20);
            message.type = 99;
            CHECK(msgsnd(queue, &message, (size_t)i + 1, 0) == 0);
        }
        change(set, 1, 3, SEM_UNDO); /* taken back when it exits */
        _exit(0);
    }
    for (int i = 0; i < 10; i++) {
        struct message message = {20, ""};
        memset(message.text, 'a' + i, sizeof message.text);
        CHECK(msgsnd(queue, &message, (size_t)i + 1, 0) == 0);
        change(set, 0, 1, 0);
        CHECK(msgrcv(queue, &message, sizeof message.text, 99, 0) == i + 1 && message.text[i] == 'a' + i);
    }
    expect_exit(child, 0);
    CHECK(semctl(set, 0, GETALL, seen) == 0 && seen[0] == 0 && seen[1] == 5 && seen[2] == 7);
    CHECK(semctl(set, 1, GETPID) == child);
    struct sembuf never = {0, -1, 0};
    struct timespec limit = {0, 2000000};
    CHECK(semtimedop(set, &never, 1, &limit) == -1 && errno == EAGAIN);
    struct message message;
    CHECK(msgrcv(queue, &message, 1, 0, IPC_NOWAIT) == -1 && errno == ENOMSG);
    struct msqid_ds state;
    CHECK(msgctl(queue, IPC_STAT, &state) == 0 && state.msg_qnum == 0 && state.msg_lspid == child);
    struct semid_ds times;
    CHECK(semctl(set, 0, IPC_STAT, &times) == 0 && times.sem_nsems == 3);
    printf("%ld\n", (long)times.sem_otime);
    CHECK(semctl(set, 0, IPC_RMID) == 0 && msgctl(queue, IPC_RMID, NULL) == 0);
    fflush(stdout);

    char name[64];
    snprintf(name, sizeof name, "/guest-queue-%d", getpid());
    struct mq_attr attributes = {.mq_maxmsg = 3, .mq_msgsize = 32}, now;
    mqd_t mq = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    if (mq == (mqd_t)-1) {
        return 0; /* not in every container */
    }
    CHECK(mq_unlink(name) == 0);
    int received[2];
    CHECK(pipe(received) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char text[32];
        unsigned priority;
        CHECK(mq_receive(mq, text, sizeof text, &priority) == 5 && priority == 9 && memcmp(text, "first", 5) == 0);
        CHECK(mq_receive(mq, text, sizeof text, &priority) == 6 && priority == 2);
        CHECK(write(received[1], "r", 1) == 1);
        for (int i = 0; i < 8; i++) {
            CHECK(mq_send(mq, (char *)&i, sizeof i, 1) == 0); /* waits for room */
        }
        _exit(0);
    }
    CHECK(mq_send(mq, "first", 5, 9) == 0 && mq_send(mq, "second", 6, 2) == 0);
    CHECK(mq_getattr(mq, &now) == 0 && now.mq_maxmsg == 3);
    char byte;
    CHECK(read(received[0], &byte, 1) == 1);
    for (int i = 0; i < 8; i++) {
        char text[32];
        unsigned priority;
        int value;
        CHECK(mq_receive(mq, text, sizeof text, &priority) == sizeof value);
        memcpy(&value, text, sizeof value);
        CHECK(priority == 1 && value == i);
    }
    expect_exit(child, 0);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_notify;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    CHECK(mq_notify(mq, &event) == 0 && mq_send(mq, "x", 1, 0) == 0);
    CHECK(notified == 77);
    char text[32];
    CHECK(mq_receive(mq, text, sizeof text, NULL) == 1);
    clock_gettime(CLOCK_REALTIME, &limit);
    CHECK(mq_timedreceive(mq, text, sizeof text, NULL, &limit) == -1 && errno == ETIMEDOUT);
    printf("%d\n", getpid());
    return 0;
}

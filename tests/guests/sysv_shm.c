/* System V shared memory, semaphores and a message queue between two processes. */
#include "guest.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

int main(void) {
    int shm = shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600);
    CHECK(shm >= 0);
    volatile int *map = shmat(shm, NULL, 0);
    CHECK(map != (void *)-1);
    CHECK(shmctl(shm, IPC_RMID, NULL) == 0);
    int sem = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    CHECK(sem >= 0 && queue >= 0);
    struct message {
        long type;
        int value;
    } message = {3, getpid()};
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        map[1] = getpid();
        struct sembuf up = {0, 1, 0};
        CHECK(semop(sem, &up, 1) == 0);
        struct message got;
        CHECK(msgrcv(queue, &got, sizeof got.value, 3, 0) == sizeof got.value && got.value == getppid());
        CHECK(shmdt((const void *)map) == 0);
        _exit(0);
    }
    struct sembuf down = {0, -1, 0};
    CHECK(semop(sem, &down, 1) == 0);
    CHECK(map[1] == child);
    CHECK(msgsnd(queue, &message, sizeof message.value, 0) == 0);
    expect_exit(child, 0);
    CHECK(semctl(sem, 0, IPC_RMID) == 0 && msgctl(queue, IPC_RMID, NULL) == 0);
    printf("%d at %p\n", map[1], (const void *)map);
    return 0;
}

// guest: special
/* Processes that are killed in the middle of fork, vfork, clone, exec and exit, with or without all processes that
   they have created. Afterwards no process may be left: all hold the end of a pipe, and the pipe must close.

   `death_storm ROUNDS` kills the processes itself; `death_storm 0 MILLISECONDS` replaces processes that somebody
   else kills. */
#include "guest.h"
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

static void *nothing(void *arg) {
    return arg;
}

/* Creates tasks as fast as possible, until it is killed. */
static void storm(int kind, char **argv) {
    char *leaf[] = {argv[0], "leaf", NULL};
    for (;;) {
        pid_t pid = 0;
        pthread_t thread;
        switch (kind) {
        case 0:
            pid = fork();
            break;
        case 1:
            pid = fork();
            if (pid == 0) {
                execv("/proc/self/exe", leaf);
            }
            break;
        case 2:
            pid = vfork();
            if (pid == 0) {
                execv("/proc/self/exe", leaf);
                _exit(1);
            }
            break;
        case 3:
            CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0);
            pthread_join(thread, NULL);
            continue;
        case 4:
            /* Killed by its parent before its first instruction, or soon after. */
            pid = fork();
            if (pid > 0) {
                kill(pid, SIGKILL);
            }
            break;
        default:
            execv("/proc/self/exe", (char *[]){argv[0], "again", NULL});
        }
        if (pid == 0) {
            _exit(0);
        }
        if (kind % 2 == 0) {
            waitpid(pid, NULL, 0);
        } else {
            while (waitpid(-1, NULL, WNOHANG) > 0) {
            }
        }
    }
}

static pid_t begin(int kind, int unwanted, char **argv) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setpgid(0, 0);
        close(unwanted);
        storm(kind % 6, argv);
    }
    setpgid(pid, pid);
    return pid;
}

/* Three storms at a time, while somebody else kills. */
static void replace(long milliseconds, int unwanted, char **argv) {
    pid_t storms[3] = {0};
    int kind = 0;
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    printf("root %d\n", getpid());
    fflush(stdout);
    do {
        for (int i = 0; i < 3; i++) {
            if (storms[i] == 0 || kill(storms[i], 0) != 0) {
                storms[i] = begin(kind++, unwanted, argv);
            }
        }
        usleep(300);
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < milliseconds);
    for (int i = 0; i < 3; i++) {
        kill(-storms[i], SIGKILL);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "leaf") == 0) {
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "again") == 0) {
        storm(5, argv);
    }
    int rounds = argc > 1 ? atoi(argv[1]) : 40;
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    unsigned random = 12345;
    for (int i = 0; i < rounds; i++) {
        pid_t pid = begin(i, ends[0], argv);
        random = random * 1103515245 + 12345;
        usleep((random >> 16) % 1500);
        /* Alone, or with its children. */
        CHECK(kill(i % 4 < 2 ? pid : -pid, SIGKILL) == 0);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    if (argc > 2) {
        replace(atol(argv[2]), ends[0], argv);
    }
    close(ends[1]);
    char byte;
    CHECK(read(ends[0], &byte, 1) == 0);
    while (waitpid(-1, NULL, 0) > 0) {
    }
    CHECK(errno == ECHILD);
    puts("nobody is left");
    return 0;
}

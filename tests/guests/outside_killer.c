// guest: special
/* `outside_killer ROOT MILLISECONDS`: kills descendants of a process at random, but not itself. Not recorded. */
#include "guest.h"
#include <dirent.h>

static uint64_t seed;
static pid_t all[4096];
static int count;

static void add_children(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(tasks)) != NULL) {
        char children[320];
        snprintf(children, sizeof children, "/proc/%d/task/%s/children", pid, entry->d_name);
        FILE *file = fopen(children, "r");
        int child;
        while (file != NULL && fscanf(file, "%d", &child) == 1 && count < 4096) {
            all[count++] = child;
            add_children(child);
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    closedir(tasks);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    pid_t root = atoi(argv[1]);
    seed = fresh_seed();
    int killed = 0;
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        count = 0;
        add_children(root);
        if (count > 0) {
            pid_t victim = all[next_random(&seed) % (unsigned)count];
            /* Kills the intended process, and not another that has got its number since. */
            int fd = syscall(SYS_pidfd_open, victim, 0);
            count = 0;
            add_children(root);
            for (int i = 0; fd >= 0 && i < count; i++) {
                if (all[i] == victim) {
                    killed += syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0;
                    break;
                }
            }
            close(fd);
        }
        usleep(next_random(&seed) % 2000);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < atol(argv[2]));
    printf("%d killed\n", killed);
    return 0;
}

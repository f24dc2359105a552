// guest: special cflags=-pthread
/* Makes calls that a seccomp filter may refuse, between other calls and in the middle of computing; and
 * starts threads and programs, which first try clone3. Prints all results. */
#include "guest.h"
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/time.h>

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) { (void)signal; alarms++; }
static void *thread(void *argument) { return argument; }

static void try(const char *name, long number, long first) {
    long result = syscall(number, first, 0, 0, 0, 0);
    printf("%s: %s\n", name, result >= 0 ? "done" : strerrorname_np(errno));
}

int main(void) {
    for (int i = 0; i < 4; i++) {
        /* At one site, so that the library makes all but the first. */
        CHECK(syscall(SYS_getpid) == getpid());
        try("perf_event_open", SYS_perf_event_open, 0);
        CHECK(syscall(SYS_getppid) == getppid());
        try("keyctl", SYS_keyctl, 0);
        try("kcmp", SYS_kcmp, -1);
        try("socket", SYS_socket, AF_VSOCK);
        try("unshare", SYS_unshare, 0);
        try("clone3", SYS_clone3, 0);
    }
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, thread, NULL) == 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    fflush(stdout);
    CHECK(system("echo from a shell") == 0);
    signal(SIGALRM, on_alarm);
    struct itimerval once = {{0, 0}, {0, 20000}};
    CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
    unsigned long turns = 0;
    while (alarms == 0) {
        if (turns++ % 100000 == 0) {
            syscall(SYS_perf_event_open, 0, 0, 0, 0, 0);
        }
    }
    printf("%lu turns\n", turns);
    return 0;
}

/* Functions shared by guests that trace others. */
#ifndef TRACING_H
#define TRACING_H

#include "guest.h"
#include <sys/wait.h>

/* Waits until a tracee stops; returns the signal, and the event above it. */
static int wait_for_stop(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, __WALL) == pid);
    CHECK(WIFSTOPPED(status));
    return status >> 8;
}

#endif

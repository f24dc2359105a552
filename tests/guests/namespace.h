/* Shared by guests with pid namespaces. */
#ifndef NAMESPACE_H
#define NAMESPACE_H

#include "guest.h"
#include <sched.h>

/* Forks the first process of a new pid namespace, as fork does. If the system does not allow namespaces, the caller ends with
 * status 1. */
static pid_t fork_namespace(void) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
        _exit(1);
    }
    pid_t init = fork();
    CHECK(init >= 0);
    return init;
}

#endif

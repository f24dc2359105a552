/* A handler interrupted by another signal's handler, masks during handlers, SA_NODEFER and SA_RESETHAND. */
#include "guest.h"

static volatile sig_atomic_t depth, deepest, order, inner_at, outer_at;

static void inner(int signal) {
    (void)signal;
    depth++;
    deepest = depth > deepest ? depth : deepest;
    inner_at = ++order;
    depth--;
}

static void outer(int signal) {
    (void)signal;
    depth++;
    CHECK(raise(SIGUSR2) == 0); /* handled before raise returns */
    deepest = depth > deepest ? depth : deepest;
    outer_at = ++order;
    depth--;
}

static void recursive(int signal) {
    depth++;
    deepest = depth > deepest ? depth : deepest;
    if (depth < 5) {
        CHECK(raise(signal) == 0);
    }
    depth--;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = inner;
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    action.sa_handler = outer;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK(deepest == 2 && inner_at == 1 && outer_at == 2);

    sigaddset(&action.sa_mask, SIGUSR2); /* now the inner one has to wait until the outer is done */
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    deepest = order = 0;
    CHECK(raise(SIGUSR1) == 0);
    CHECK(deepest == 1 && outer_at == 1 && inner_at == 2);

    memset(&action, 0, sizeof action);
    action.sa_handler = recursive;
    action.sa_flags = SA_NODEFER;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    deepest = 0;
    CHECK(raise(SIGUSR1) == 0 && deepest == 5);

    action.sa_handler = inner;
    action.sa_flags = (int)SA_RESETHAND;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK(sigaction(SIGUSR1, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    printf("pid %d\n", getpid());
    return 0;
}

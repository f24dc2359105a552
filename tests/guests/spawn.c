/* posix_spawn, system and popen: clone with CLONE_VM and CLONE_VFORK on a stack of its own. */
#include "guest.h"
#include <spawn.h>

extern char **environ;

int main(void) {
    pid_t child;
    char *args[] = {"sh", "-c", "echo spawned $$; exit 9", NULL};
    CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, args, environ) == 0);
    expect_exit(child, 9);
    CHECK(posix_spawn(&child, "/nonexistent", NULL, NULL, args, environ) == ENOENT);
    int status = system("exit 5");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    FILE *out = popen("echo to a pipe $$", "r");
    CHECK(out != NULL);
    char line[100];
    CHECK(fgets(line, sizeof line, out) != NULL);
    fputs(line, stdout);
    CHECK(pclose(out) == 0);
    out = popen("cat", "w");
    CHECK(out != NULL);
    fflush(stdout);
    fprintf(out, "from %d\n", getpid());
    CHECK(pclose(out) == 0);
    return 0;
}

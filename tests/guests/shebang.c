/* Scripts: an interpreter line with an argument, and a script as the interpreter of another. */
#include "guest.h"

static void script(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0700);
    CHECK(fd >= 0);
    write_all(fd, text, strlen(text));
    CHECK(close(fd) == 0);
}

int main(void) {
    char *dir = scratch_dir(), cwd[4096], text[5000];
    CHECK(chdir(dir) == 0 && getcwd(cwd, sizeof cwd) != NULL);
    script("first", "#!/bin/sh -e\necho first: $# \"$@\"\nfalse\necho not reached\n");
    snprintf(text, sizeof text, "#!%s/first word\nnever executed\n", cwd);
    script("second", text);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execl("./first", "first", "a", "b c", NULL);
        _exit(111);
    }
    expect_exit(child, 1);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execl("./second", "second", "d", NULL);
        _exit(111);
    }
    expect_exit(child, 1);
    CHECK(unlink("first") == 0 && unlink("second") == 0 && chdir("..") == 0 && rmdir(dir) == 0);
    return 0;
}

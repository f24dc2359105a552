/* All ways in which an exec fails; the program continues unharmed. */
#include "guest.h"

static void expect(const char *path, int error) {
    char *args[] = {"x", NULL};
    errno = 0;
    CHECK(execv(path, args) == -1);
    if (errno != error) {
        dprintf(2, "%s: %d instead of %d\n", path, errno, error);
        _exit(98);
    }
}

static void make(const char *path, const char *content, mode_t mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    write_all(fd, content, strlen(content));
    CHECK(fchmod(fd, mode) == 0);
    close(fd);
}

int main(void) {
    char *dir = scratch_dir();
    CHECK(chdir(dir) == 0);
    expect("missing", ENOENT);
    make("plain", "no program at all", 0700);
    expect("./plain", ENOEXEC);
    make("empty", "", 0700);
    expect("./empty", ENOEXEC);
    make("forbidden", "#!/bin/sh\n", 0600);
    expect("./forbidden", EACCES);
    make("lost", "#!/nonexistent/interpreter\n", 0700);
    expect("./lost", ENOENT);
    expect("./plain/below", ENOTDIR);
    CHECK(symlink("loop", "loop") == 0);
    expect("./loop", ELOOP);
    expect(".", EACCES);
    int writer = open("empty", O_WRONLY);
    CHECK(writer >= 0);
    make("busy", "#!/bin/sh\n", 0700);
    int busy = open("busy", O_WRONLY);
    expect("./busy", ETXTBSY);
    close(busy);
    close(writer);
    static char *many[300000];
    for (int i = 0; i < 299999; i++) {
        many[i] = "an argument of thirty-two chars.";
    }
    CHECK(execv("/bin/true", many) == -1 && errno == E2BIG);
    CHECK(syscall(SYS_execve, 16, many, NULL) == -1 && errno == EFAULT);
    printf("unharmed, pid %d\n", getpid());
    static const char *const names[] = {"plain", "empty", "forbidden", "lost", "loop", "busy"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK(unlink(names[i]) == 0);
    }
    CHECK(chdir("..") == 0 && rmdir(dir) == 0);
    return 0;
}

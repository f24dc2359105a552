/* exec by a relative path after chdir, by a directory descriptor, by a file descriptor, from a memfd. */
#include "guest.h"
#include <sys/mman.h>

extern char **environ;

static void copy_self(const char *to) {
    int in = open("/proc/self/exe", O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0700);
    CHECK(in >= 0 && out >= 0);
    static char buffer[1 << 16];
    ssize_t n;
    while ((n = read(in, buffer, sizeof buffer)) > 0) {
        write_all(out, buffer, (size_t)n);
    }
    CHECK(n == 0 && close(in) == 0 && close(out) == 0);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        char cwd[4096], exe[4096];
        CHECK(getcwd(cwd, sizeof cwd) != NULL);
        ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
        CHECK(n > 0);
        exe[n] = 0;
        printf("%s: pid %d exe %s\n", argv[1], getpid(), strrchr(exe, '/'));
        return 21;
    }
    char *dir = scratch_dir();
    CHECK(mkdir("below", 0700) == 0 || errno == EEXIST);
    CHECK(chdir(dir) == 0);
    copy_self("copy");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execl("./copy", "copy", "relative", NULL);
        _exit(1);
    }
    expect_exit(child, 21);
    CHECK(chdir("..") == 0);
    int at = open(dir, O_RDONLY | O_DIRECTORY);
    CHECK(at >= 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char *args[] = {"copy", "execveat", NULL};
        syscall(SYS_execveat, at, "copy", args, environ, 0);
        _exit(1);
    }
    expect_exit(child, 21);
    int file = openat(at, "copy", O_RDONLY);
    CHECK(file >= 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char *args[] = {"copy", "fexecve", NULL};
        fexecve(file, args, environ);
        _exit(1);
    }
    expect_exit(child, 21);
    int memory = memfd_create("program", MFD_CLOEXEC);
    CHECK(memory >= 0);
    static char buffer[1 << 16];
    ssize_t n;
    while ((n = read(file, buffer, sizeof buffer)) > 0) {
        write_all(memory, buffer, (size_t)n);
    }
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char *args[] = {"copy", "memfd", NULL};
        fexecve(memory, args, environ);
        _exit(1);
    }
    expect_exit(child, 21);
    CHECK(unlinkat(at, "copy", 0) == 0 && rmdir(dir) == 0 && rmdir("below") == 0);
    return 0;
}

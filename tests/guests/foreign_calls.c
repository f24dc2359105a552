/* System calls other than those of 64-bit mode: `int 0x80`, the x32 bit, and 32-bit programs. */
#include "guest.h"

static long int80(long number, long first) {
    long result = number;
    __asm__ volatile("int $0x80" : "+a"(result) : "b"(first) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

/* An i386 program that calls exit(0). */
static const unsigned char program[] = {
    0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 32-bit, little-endian */
    2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 0x04, 0x08,          /* an executable for i386, its entry */
    0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                   /* program headers at 52 */
    0x34, 0, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0,                /* one of 32 bytes */
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x04, 0x08, 0, 0x80, 0x04, 0x08,
    0x60, 0, 0, 0, 0x60, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0, /* load it all */
    0x31, 0xc0, 0x40, 0x31, 0xdb, 0xcd, 0x80, 0x90, 0x90, 0x90, 0x90, 0x90, /* exit(0) */
};

static void execute(const char *path) {
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl(path, path, (char *)NULL);
        CHECK(errno == ENOEXEC);
        _exit(recorded() ? 0 : 98);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 98));
}

static void write_file(const char *path, const void *bytes, size_t length) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0755);
    CHECK(fd >= 0);
    write_all(fd, bytes, length);
    close(fd);
}

int main(void) {
    /* 20 is getpid for i386, and writev for us. */
    for (int i = 0; i < 3; i++) {
        long result = int80(20, 0);
        CHECK(recorded() ? result == -ENOSYS : (result == getpid() || result == -ENOSYS));
    }
    printf("int 0x80 done in %d\n", getpid());
    errno = 0;
    CHECK(syscall(0x40000000 | SYS_getpid) == -1 && errno == ENOSYS);
    CHECK(getpid() > 0);

    char *dir = scratch_dir(), path[128], script[128], line[256];
    snprintf(path, sizeof path, "%s/program", dir);
    write_file(path, program, sizeof program);
    execute(path);
    snprintf(script, sizeof script, "%s/script", dir);
    snprintf(line, sizeof line, "#!%s an argument\n", path);
    write_file(script, line, strlen(line));
    execute(script);
    puts("done");
    unlink(path);
    unlink(script);
    rmdir(dir);
    return 0;
}

/* A process makes namespaces and a root directory of its own; if the system does not allow this, the
 * process is told so. */
#include "guest.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/utsname.h>

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd >= 0) {
        (void)!write(fd, text, strlen(text));
        close(fd);
    }
}

int main(void) {
    uid_t uid = getuid();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC) != 0) {
            printf("not allowed: %d\n", errno);
            return 0;
        }
        char map[64];
        snprintf(map, sizeof map, "0 %d 1", uid);
        write_file("/proc/self/setgroups", "deny");
        write_file("/proc/self/uid_map", map);
        CHECK(getuid() == 0);
        struct utsname name;
        CHECK(sethostname("inside", 6) == 0 && uname(&name) == 0 && strcmp(name.nodename, "inside") == 0);
        pid_t grandchild = fork();
        CHECK(grandchild >= 0);
        if (grandchild == 0) {
            CHECK(getpid() == 1 && getppid() == 0); /* the first of its namespace */
            pid_t third = fork();
            CHECK(third >= 0);
            if (third == 0) {
                CHECK(getpid() == 2 && getppid() == 1 && raise(0) == 0);
                CHECK(syscall(SYS_gettid) == 2);
                char *dir = scratch_dir();
                if (chroot(dir) == 0) {
                    CHECK(chdir("/") == 0);
                    int fd = open("/file", O_RDWR | O_CREAT, 0600);
                    CHECK(fd >= 0 && close(fd) == 0 && unlink("/file") == 0);
                    CHECK(access("/proc", F_OK) == -1 && access("/bin", F_OK) == -1);
                    execl("/bin/sh", "sh", NULL);
                    CHECK(errno == ENOENT);
                }
                _exit(21);
            }
            CHECK(third == 2);
            expect_exit(third, 21);
            execl("/bin/sh", "sh", "-c", "test $$ = 1 && exit 22", NULL);
            _exit(1);
        }
        expect_exit(grandchild, 22);
        printf("allowed, %s\n", name.nodename);
        return 0;
    }
    expect_exit(child, 0);
    CHECK(getuid() == uid);
    return 0;
}

/* The everyday calls on files and directories: every one of the family at least once. */
#include "guest.h"
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <utime.h>

int main(void) {
    char *dir = scratch_dir(), text[4096];
    CHECK(chdir(dir) == 0);
    int here = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(here >= 0 && getcwd(text, sizeof text) != NULL);
    printf("%s\n", text);
    int fd = openat(here, "file", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 0);
    CHECK(open("file", O_RDWR | O_CREAT | O_EXCL, 0640) == -1 && errno == EEXIST);
    CHECK(write(fd, "0123456789", 10) == 10 && pwrite(fd, "abc", 3, 20) == 3);
    struct stat info, other;
    CHECK(fstat(fd, &info) == 0 && info.st_size == 23 && stat("file", &other) == 0);
    CHECK(info.st_ino == other.st_ino && major(info.st_dev) == major(other.st_dev));
    printf("inode %lu, mtime %ld.%09ld\n", (unsigned long)info.st_ino, (long)info.st_mtim.tv_sec,
           info.st_mtim.tv_nsec);
    struct statx extended;
    CHECK(statx(here, "file", 0, STATX_BASIC_STATS | STATX_BTIME, &extended) == 0 && extended.stx_size == 23);
    CHECK(fstatat(here, "file", &other, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK(link("file", "hard") == 0 && symlink("file", "soft") == 0 && lstat("soft", &other) == 0);
    CHECK(S_ISLNK(other.st_mode) && readlink("soft", text, sizeof text) == 4 && memcmp(text, "file", 4) == 0);
    CHECK(linkat(here, "file", here, "hard2", 0) == 0 && symlinkat("nowhere", here, "dangling") == 0);
    CHECK(readlinkat(here, "dangling", text, 3) == 3);
    CHECK(stat("dangling", &other) == -1 && errno == ENOENT);
    CHECK(access("file", R_OK | W_OK) == 0 && faccessat(here, "file", F_OK, 0) == 0);
    CHECK(chmod("file", 0600) == 0 && fchmod(fd, 0644) == 0 && fchmodat(here, "file", 0600, 0) == 0);
    CHECK(chown("file", (uid_t)-1, (gid_t)-1) == 0 && fchown(fd, getuid(), getgid()) == 0);
    CHECK(rename("hard", "renamed") == 0 && renameat(here, "hard2", here, "renamed2") == 0);
    CHECK(syscall(SYS_renameat2, here, "renamed", here, "renamed2", 2 /* exchange */) == 0 || errno == EINVAL);
    struct timespec times[2] = {{1000000000, 5}, {1100000000, 7}};
    CHECK(futimens(fd, times) == 0 && fstat(fd, &info) == 0 && info.st_mtim.tv_sec == 1100000000);
    CHECK(utimensat(here, "file", NULL, 0) == 0);
    struct utimbuf old = {1, 2};
    CHECK(utime("file", &old) == 0 && stat("file", &info) == 0 && info.st_mtime == 2);
    CHECK(mkdir("sub", 0700) == 0 && mkdirat(here, "sub2", 0700) == 0 && chdir("sub") == 0);
    CHECK(fchdir(here) == 0 && rmdir("sub") == 0 && unlinkat(here, "sub2", AT_REMOVEDIR) == 0);
    CHECK(mknod("node", S_IFREG | 0600, 0) == 0 && unlink("node") == 0);
    CHECK(truncate("file", 15) == 0 && ftruncate(fd, 12) == 0 && fallocate(fd, 0, 0, 8192) == 0);
    CHECK(lseek(fd, 0, SEEK_END) == 8192 && lseek(fd, 0, SEEK_DATA) == 0);
    CHECK(fsync(fd) == 0 && fdatasync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
    CHECK(syncfs(fd) == 0 && readahead(fd, 0, 4096) == 0);
    if (setxattr("file", "user.guest", "value", 5, 0) == 0) {
        CHECK(getxattr("file", "user.guest", text, sizeof text) == 5 && memcmp(text, "value", 5) == 0);
        CHECK(fgetxattr(fd, "user.guest", NULL, 0) == 5);
        CHECK(flistxattr(fd, text, sizeof text) >= 11 && removexattr("file", "user.guest") == 0);
    }
    struct statfs fs;
    CHECK(fstatfs(fd, &fs) == 0);
    CHECK(flock(fd, LOCK_SH) == 0 && flock(fd, LOCK_UN) == 0);
    struct flock record = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 5};
    CHECK(fcntl(fd, F_SETLK, &record) == 0 && fcntl(fd, F_GETLK, &record) == 0 && record.l_type == F_UNLCK);
    mode_t mask = umask(077);
    umask(mask);
    CHECK(unlink("file") == 0 && unlink("renamed") == 0 && unlink("renamed2") == 0 && unlink("soft") == 0);
    CHECK(unlink("dangling") == 0 && chdir("..") == 0 && rmdir(dir) == 0);
    CHECK(rmdir(dir) == -1 && errno == ENOENT);
    return 0;
}

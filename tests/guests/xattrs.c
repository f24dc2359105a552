/* Extended attributes by path, link and descriptor: asking for sizes, buffers that are too small,
 * lists, removal. */
#include "guest.h"
#include <sys/xattr.h>

int main(void) {
    int fd = open("attributed", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    if (fsetxattr(fd, "user.first", "one", 3, XATTR_CREATE) != 0) {
        printf("not supported here: %d\n", errno);
        return unlink("attributed");
    }
    char value[300], list[300];
    CHECK(setxattr("attributed", "user.second", "twotwo", 6, 0) == 0);
    CHECK(setxattr("attributed", "user.second", "x", 1, XATTR_CREATE) == -1 && errno == EEXIST);
    CHECK(getxattr("attributed", "user.first", NULL, 0) == 3);
    memset(value, 'v', sizeof value);
    CHECK(fgetxattr(fd, "user.second", value, sizeof value) == 6 && memcmp(value, "twotwov", 7) == 0);
    CHECK(lgetxattr("attributed", "user.second", value, 5) == -1 && errno == ERANGE);
    CHECK(getxattr("attributed", "user.none", value, sizeof value) == -1 && errno == ENODATA);
    ssize_t n = flistxattr(fd, list, sizeof list);
    CHECK(n >= 23 && listxattr("attributed", NULL, 0) == n && llistxattr("attributed", list, 5) == -1 && errno == ERANGE);
    CHECK(fremovexattr(fd, "user.first") == 0 && removexattr("attributed", "user.second") == 0);
    printf("%zd %s\n", n, list);
    return unlink("attributed");
}

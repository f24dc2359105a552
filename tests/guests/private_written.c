/* A file mapped privately that is written to afterwards: Linux shows the change in pages that the
 * process has not written to. */
#include "guest.h"
#include <sys/mman.h>

enum { PAGES = 8, PAGE = 4096 };

static unsigned char *map(int fd) {
    unsigned char *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void show(const char *what, const unsigned char *m) {
    printf("%s:", what);
    for (int i = 0; i < PAGES; i++) {
        printf(" %c%c%c", m[i * PAGE], m[i * PAGE + 100], m[i * PAGE + PAGE - 1]);
    }
    printf("\n");
    fflush(stdout);
}

int main(void) {
    static unsigned char data[PAGES * PAGE];
    memset(data, 'a', sizeof data);
    int fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    write_all(fd, data, sizeof data);
    unsigned char *m = map(fd);
    CHECK(m[0] == 'a'); /* read: still the file's */
    m[PAGE] = 'm';      /* written: ours from now on */
    CHECK(pwrite(fd, "Z", 1, 100) == 1);
    CHECK(pwrite(fd, "Z", 1, PAGE + 100) == 1);
    CHECK(pwrite(fd, "Y", 1, 2 * PAGE + 100) == 1); /* never touched before */
    show("written", m);
    /* over the edge of two pages, by position */
    CHECK(lseek(fd, 4 * PAGE - 1, SEEK_SET) == 4 * PAGE - 1);
    CHECK(write(fd, "XX", 2) == 2);
    show("position", m);
    unsigned char *n = map(fd);
    show("anew", n);
    /* a process with the same pages */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(pwrite(fd, "W", 1, 5 * PAGE + 100) == 1);
        show("child", m);
        show("child", n);
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(n[5 * PAGE + 100] == 'W');
    show("parent", m);
    /* appended, whatever the offset says */
    int end = open("file", O_WRONLY | O_APPEND);
    CHECK(end >= 0);
    CHECK(ftruncate(fd, PAGES * PAGE - 1) == 0);
    CHECK(pwrite(end, "V", 1, 0) == 1);
    show("appended", n);
    return 0;
}

/* System call sites that were rewritten, and changes that the program then makes around them: it unmaps
 * all unknown memory near them, maps other memory over that, or takes access rights away; and it
 * changes, moves and unmaps the code itself. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/uio.h>

#define PAGE 4096UL

/* A page of code from a file: getppid, at each of these offsets. */
#define SITES 4
#define SITE(n) (64 + 256 * (n))

static long call(const char *code, int n) {
    return ((long (*)(void))(uintptr_t)(code + SITE(n)))();
}

static int code_file(void) {
    static unsigned char page[PAGE];
    memset(page, 0x90, sizeof page);
    for (int n = 0; n < SITES; n++) {
        /* mov eax, SYS_getppid; syscall; ret */
        static const unsigned char function[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3};
        /* The same in so few bytes that there is no room for a jump but in the padding before it: push; pop; syscall; ret */
        static const unsigned char padded[] = {0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x6a, 110, 0x58, 0x0f, 0x05, 0xc3};
        if (n % 2 == 0) {
            memcpy(page + SITE(n), function, sizeof function);
        } else {
            memcpy(page + SITE(n) - 10, padded, sizeof padded);
        }
    }
    char path[] = "code-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, page, sizeof page) == (ssize_t)sizeof page && unlink(path) == 0);
    return fd;
}

/* The room around the code, which belongs to no mapping. */
#define ROOM (64 * PAGE)

static char *map_code(int fd) {
    char *room = mmap(NULL, 2 * ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(room != MAP_FAILED && munmap(room, 2 * ROOM) == 0);
    char *code = mmap(room + ROOM, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0);
    CHECK(code == room + ROOM);
    for (int n = 0; n < SITES * 4; n++) {
        CHECK(call(code, n % SITES) == getppid());
    }
    return code;
}

static void all_work(const char *code) {
    for (int n = 0; n < SITES * 4; n++) {
        CHECK(call(code, n % SITES) == getppid());
    }
}

static void in_child(void (*what)(char *, int), int fd) {
    pid_t child = fork();
    if (child == 0) {
        what(map_code(fd), fd);
        _exit(0);
    }
    expect_exit(child, 0);
}

static void unmap_below(char *code, int fd) {
    (void)fd;
    CHECK(munmap(code - ROOM, ROOM) == 0);
    all_work(code);
}

static void map_over_below(char *code, int fd) {
    (void)fd;
    CHECK(mmap(code - ROOM, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == code - ROOM);
    memset(code - ROOM, 0xcc, ROOM);
    all_work(code);
}

static void share_over_below(char *code, int fd) {
    (void)fd;
    CHECK(mmap(code - ROOM, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == code - ROOM);
    memset(code - ROOM, 0xcc, ROOM);
    all_work(code);
}

static void protect_below(char *code, int fd) {
    (void)fd;
    (void)!mprotect(code - 2 * PAGE, 2 * PAGE, PROT_NONE); /* natively, nothing is there */
    all_work(code);
}

static void advise_below(char *code, int fd) {
    (void)fd;
    (void)!madvise(code - ROOM, ROOM, MADV_DONTNEED);
    all_work(code);
    (void)!madvise(code - ROOM, ROOM, MADV_DONTFORK);
    pid_t child = fork();
    if (child == 0) {
        all_work(code);
        _exit(0);
    }
    expect_exit(child, 0);
    all_work(code);
}

static void move_below(char *code, int fd) {
    (void)fd;
    char *to = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(to != MAP_FAILED);
    for (char *page = code - ROOM; page < code; page += PAGE) {
        (void)!mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    }
    all_work(code);
}

/* The numbers of the code's system calls change. */
static void patch(char *code, int fd) {
    (void)fd;
    CHECK(mprotect(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    for (int n = 0; n < SITES; n++) {
        code[SITE(n) + 1] = SYS_getpid;
    }
    CHECK(mprotect(code, PAGE, PROT_READ | PROT_EXEC) == 0);
    for (int n = 0; n < SITES * 4; n++) {
        CHECK(call(code, n % SITES) == getpid());
    }
}

static void patch_as_file(char *code, int fd) {
    (void)fd;
    int mem = open("/proc/self/mem", O_RDWR);
    CHECK(mem >= 0);
    unsigned char number = SYS_getpid;
    for (int n = 0; n < SITES; n++) {
        CHECK(pwrite(mem, &number, 1, (off_t)(uintptr_t)(code + SITE(n) + 1)) == 1);
    }
    close(mem);
    for (int n = 0; n < SITES * 4; n++) {
        CHECK(call(code, n % SITES) == getpid());
    }
}

static void move_code(char *code, int fd) {
    (void)fd;
    char *to = code + ROOM / 2;
    CHECK(mremap(code, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    all_work(to);
}

/* Other code replaces the code, at the same addresses. */
static void replace_code(char *code, int fd) {
    CHECK(munmap(code, PAGE) == 0);
    int other = code_file();
    unsigned char number = SYS_getpid;
    for (int n = 0; n < SITES; n++) {
        CHECK(pwrite(other, &number, 1, SITE(n) + 1) == 1);
    }
    CHECK(mmap(code, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, other, 0) == code);
    for (int n = 0; n < SITES * 4; n++) {
        CHECK(call(code, n % SITES) == getpid());
    }
    CHECK(mmap(code, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0) == code);
    all_work(code);
}

static void forget_changes(char *code, int fd) {
    (void)fd;
    CHECK(madvise(code, PAGE, MADV_DONTNEED) == 0);
    all_work(code);
    CHECK(munmap(code - ROOM, ROOM) == 0);
    all_work(code);
}

int main(void) {
    int fd = code_file();
    in_child(unmap_below, fd);
    in_child(map_over_below, fd);
    in_child(share_over_below, fd);
    in_child(protect_below, fd);
    in_child(advise_below, fd);
    in_child(move_below, fd);
    in_child(patch, fd);
    in_child(patch_as_file, fd);
    in_child(move_code, fd);
    in_child(replace_code, fd);
    in_child(forget_changes, fd);
    printf("%d\n", getpid());
    return 0;
}

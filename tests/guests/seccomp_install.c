// guest: heavy
/* The kernel's checks before it accepts a filter: flags, addresses, privileges, the program, and the
 * total size of all filters. */
#include "filters.h"
#include <sys/mman.h>

static int fails_with(long result) { return result == -1 ? errno : 0; }

static int wrong(unsigned code, unsigned k, unsigned char yes, unsigned char no) {
    struct filter f = {.length = 0};
    add(&f, code, k, yes, no);
    answer(&f, SECCOMP_RET_ALLOW);
    return fails_with(install_with(&f, 0));
}

static void without_privileges(void) {
    if (getuid() == 0) {
        CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    }
    struct filter f = {.length = 0};
    answer(&f, SECCOMP_RET_ALLOW);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHECK(fails_with(install_with(&f, 0)) == EACCES);
    /* The length is checked before privileges, and the program after them. */
    struct sock_fprog program = {0, f.code};
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) == EINVAL);
    program = (struct sock_fprog){1, NULL};
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) == EACCES);
    CHECK(fails_with(prctl(PR_SET_SECCOMP, 2, &program)) == EACCES);
    promise();
    CHECK(install_with(&f, 0) == 0);
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) == EINVAL);
    CHECK(fails_with(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)) == EINVAL);
    CHECK(fails_with(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0)) == EINVAL);
    CHECK(fails_with(prctl(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0)) == EINVAL);
}

static void questions(void) {
    static const unsigned known[] = {
        SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO, SECCOMP_RET_TRACE,
        SECCOMP_RET_LOG,          SECCOMP_RET_ALLOW,
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        CHECK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &known[i]) == 0);
    }
    unsigned unknown = 0x12340000;
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &unknown)) == EOPNOTSUPP);
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 1, &unknown)) == EINVAL);
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, 8)) == EFAULT);
    unsigned listener = SECCOMP_RET_USER_NOTIF;
    CHECK(!recorded() || fails_with(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &listener)) == EOPNOTSUPP);
    struct seccomp_notif_sizes sizes = {0};
    CHECK(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) == 0 && sizes.seccomp_data == 64);
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 1, &sizes)) == EINVAL);
    CHECK(fails_with(syscall(SYS_seccomp, 17, 0, NULL)) == EINVAL);
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL)) == EINVAL);
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, &sizes)) == EINVAL);
    CHECK(fails_with(prctl(PR_SET_SECCOMP, 0, NULL)) == EINVAL && fails_with(prctl(PR_SET_SECCOMP, 3, NULL)) == EINVAL);
    /* Calls by which programs ask about features of the kernel. */
    for (unsigned flags = 0; flags < 8; flags++) {
        CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, NULL)) == EFAULT);
    }
    CHECK(fails_with(prctl(PR_SET_SECCOMP, 2, NULL)) == EFAULT);
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 64, NULL)) == EINVAL);
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, NULL)) == EINVAL);
    const unsigned ambiguous = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER;
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, ambiguous, NULL)) == EINVAL);
}

static void programs(void) {
    promise();
    /* Jumps past the end, unknown codes, bad addresses, divisions by 0. */
    CHECK(wrong(BPF_JMP | BPF_JA, 1, 0, 0) == EINVAL && wrong(BPF_JMP | BPF_JA, 0xffffffff, 0, 0) == EINVAL);
    CHECK(wrong(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1) == EINVAL && wrong(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0) == EINVAL);
    CHECK(wrong(BPF_LD | BPF_W | BPF_ABS, 64, 0, 0) == EINVAL && wrong(BPF_LD | BPF_W | BPF_ABS, 2, 0, 0) == EINVAL);
    CHECK(wrong(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0) == EINVAL && wrong(BPF_LD | BPF_W | BPF_IND, 0, 0, 0) == EINVAL);
    CHECK(wrong(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0) == EINVAL && wrong(0xffff, 0, 0, 0) == EINVAL);
    CHECK(wrong(BPF_LD | BPF_MEM, 1, 0, 0) == EINVAL && wrong(BPF_ST, 16, 0, 0) == EINVAL);
    CHECK(wrong(BPF_ALU | BPF_DIV | BPF_K, 0, 0, 0) == EINVAL && wrong(BPF_ALU | BPF_MOD | BPF_K, 3, 0, 0) == EINVAL);
    CHECK(wrong(BPF_ALU | BPF_LSH | BPF_K, 32, 0, 0) == EINVAL && wrong(BPF_RET | BPF_X, 0, 0, 0) == EINVAL);
    /* No return at the end. */
    struct filter f = {.length = 0};
    load(&f, NUMBER);
    CHECK(fails_with(install_with(&f, 0)) == EINVAL);
    /* Valid programs. */
    CHECK(wrong(BPF_ST, 15, 0, 0) == 0 && wrong(BPF_ALU | BPF_LSH | BPF_K, 31, 0, 0) == 0);
    long page = sysconf(_SC_PAGESIZE);
    char *two = mmap(NULL, (size_t)page * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(two != MAP_FAILED && munmap(two + page, (size_t)page) == 0);
    struct sock_filter *last = (struct sock_filter *)(two + page) - 1;
    *last = (struct sock_filter){BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    struct sock_fprog program = {2, last};
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) == EFAULT);
    program.len = 1;
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
    program.len = 4097;
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) == EINVAL);
    /* Strict mode is no longer possible. */
    CHECK(fails_with(prctl(PR_SET_SECCOMP, 1)) == EINVAL);
    CHECK(fails_with(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL)) == EINVAL);
}

/* Returns the number of filters of one size that the kernel accepts. */
static int most(unsigned code, unsigned k, unsigned char yes, unsigned char no, int length) {
    promise();
    static struct sock_filter large[4096];
    for (int i = 0; i < length - 1; i++) {
        large[i] = (struct sock_filter){(unsigned short)code, yes, no, k};
    }
    large[length - 1] = (struct sock_filter){BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    struct sock_fprog program = {(unsigned short)length, large};
    int count = 0;
    while (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0) {
        count++;
    }
    CHECK(errno == ENOMEM);
    return count;
}

static void show_most(void) {
    static const struct {
        unsigned code, k;
        unsigned char yes, no;
        int length;
    } kinds[] = {
        {BPF_LD | BPF_IMM, 0, 0, 0, 4096},          {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 0, 300},
        {BPF_JMP | BPF_JEQ | BPF_K, 0xf0000000, 0, 0, 300},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int line[2], count;
        CHECK(pipe(line) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            count = most(kinds[i].code, kinds[i].k, kinds[i].yes, kinds[i].no, kinds[i].length);
            write_all(line[1], &count, sizeof count);
            _exit(1);
        }
        read_all(line[0], &count, sizeof count);
        expect_exit(child, 1);
        printf("%d filters of kind %zu\n", count, i);
    }
}

int main(void) {
    void (*const all[])(void) = {questions, without_privileges, programs};
    each_in_a_child(all, sizeof all / sizeof *all);
    show_most();
    return 0;
}

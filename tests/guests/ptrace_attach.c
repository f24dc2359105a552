/* PTRACE_ATTACH and PTRACE_SEIZE: a tracer reads and changes a child's memory, registers and signals,
 * and detaches. */
#include "tracing.h"
#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

static volatile long word = 1;
static volatile int handled;

static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)context;
    handled = signal * 1000 + info->si_code;
}

static void catch_signals(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
}

/* The child waits for bytes, and reports the changes that it finds. */
static _Noreturn void be_traced(int in, int out) {
    catch_signals();
    char byte;
    for (;;) {
        read_all(in, &byte, 1);
        long told[2] = {word, handled};
        write_all(out, told, sizeof told);
        if (byte == 'q') {
            _exit((int)word & 0x7f);
        }
    }
}

static void go_on(int to, int from, long told[2], char byte) {
    write_all(to, &byte, 1);
    read_all(from, told, 2 * sizeof(long));
}

/* Stops a seized child in its read. */
static void stop_in_read(pid_t child, struct user_regs_struct *regs) {
    for (;;) {
        CHECK(ptrace(PTRACE_INTERRUPT, child, 0, 0) == 0);
        CHECK(wait_for_stop(child) == (SIGTRAP | PTRACE_EVENT_STOP << 8));
        CHECK(ptrace(PTRACE_GETREGS, child, 0, regs) == 0);
        if (regs->orig_rax == SYS_read && (long)regs->rax == -512) {
            return;
        }
        CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
        sleep_ms(1);
    }
}

/* The bytes that the file mapped at this address has there. */
static void read_file_at(unsigned long at, void *bytes, size_t length) {
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    char line[1024], path[512];
    unsigned long start, end, offset;
    do {
        CHECK(fgets(line, sizeof line, maps));
    } while (sscanf(line, "%lx-%lx %*s %lx %*s %*s %511s", &start, &end, &offset, path) != 4 || at < start || at >= end);
    fclose(maps);
    int file = open(path, O_RDONLY);
    CHECK(file >= 0 && pread(file, bytes, length, (off_t)(offset + (at - start))) == (ssize_t)length);
    close(file);
}

static void look_at(pid_t child, int to, int from) {
    long told[2];
    struct user_regs_struct regs;
    /* The child is in a read. */
    CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == 0);
    CHECK(wait_for_stop(child) == SIGSTOP);
    CHECK(waitpid(child, NULL, WNOHANG) == 0);
    siginfo_t info;
    CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &info) == 0 && info.si_signo == SIGSTOP);
    CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
    struct user_regs_struct same;
    struct iovec vector = {&same, sizeof same};
    CHECK(ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS, &vector) == 0 && vector.iov_len == sizeof same);
    CHECK(memcmp(&same, &regs, sizeof regs) == 0);
    errno = 0;
    CHECK(ptrace(PTRACE_PEEKUSER, child, offsetof(struct user_regs_struct, rsp), 0) == (long)regs.rsp && errno == 0);
    /* The child's code is that of its file, although the call in it may have been rewritten. */
    unsigned char code[32];
    read_file_at(regs.rip - 16, code, sizeof code);
    for (unsigned at = 0; at < sizeof code; at++) {
        long peeked = ptrace(PTRACE_PEEKTEXT, child, regs.rip - 16 + at, 0);
        CHECK((peeked & 0xff) == code[at]);
    }
    CHECK((ptrace(PTRACE_PEEKTEXT, child, regs.rip - 2, 0) & 0xffff) == 0x050f);
    CHECK(ptrace(PTRACE_PEEKDATA, child, &word, 0) == 1);
    CHECK(ptrace(PTRACE_POKEDATA, child, &word, 42) == 0);
    CHECK(ptrace(PTRACE_PEEKDATA, child, &word, 0) == 42 && word == 1);
    errno = 0;
    CHECK(ptrace(PTRACE_PEEKDATA, child, 8, 0) == -1 && errno == EIO);
    CHECK(ptrace(PTRACE_GETREGS, child, 0, 8) == -1 && errno == EFAULT);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(ptrace(PTRACE_GETREGS, child, 0, &regs) == -1 && errno == ESRCH);
    go_on(to, from, told, 'n');
    CHECK(told[0] == 42 && told[1] == 0);

    /* A signal: delivered, suppressed, and replaced by another. */
    CHECK(kill(child, SIGUSR1) == 0);
    CHECK(wait_for_stop(child) == SIGUSR1);
    CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &info) == 0);
    CHECK(info.si_signo == SIGUSR1 && info.si_code == SI_USER && info.si_pid == getpid());
    CHECK(ptrace(PTRACE_CONT, child, 0, SIGUSR1) == 0);
    go_on(to, from, told, 'n');
    CHECK(told[1] == SIGUSR1 * 1000 + SI_USER);
    CHECK(kill(child, SIGUSR2) == 0);
    CHECK(wait_for_stop(child) == SIGUSR2);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    go_on(to, from, told, 'n');
    CHECK(told[1] == SIGUSR1 * 1000 + SI_USER);
    CHECK(kill(child, SIGWINCH) == 0); /* which is ignored, but not by a tracer */
    CHECK(wait_for_stop(child) == SIGWINCH);
    CHECK(ptrace(PTRACE_CONT, child, 0, SIGUSR2) == 0);
    go_on(to, from, told, 'n');
    CHECK(told[1] == SIGUSR2 * 1000 + SI_USER);
    CHECK(kill(child, SIGUSR1) == 0);
    CHECK(wait_for_stop(child) == SIGUSR1);
    CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &info) == 0);
    info.si_code = -7;
    CHECK(ptrace(PTRACE_SETSIGINFO, child, 0, &info) == 0);
    CHECK(ptrace(PTRACE_DETACH, child, 0, SIGUSR1) == 0);
    go_on(to, from, told, 'n');
    CHECK(told[1] == SIGUSR1 * 1000 - 7);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == -1 && errno == ESRCH);
    printf("%d %#llx\n", child, regs.rip);
}

static void seize(pid_t child, int to, int from) {
    long told[2];
    CHECK(ptrace(PTRACE_SEIZE, child, 8, 0) == -1 && errno == EIO);
    CHECK(ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
    CHECK(ptrace(PTRACE_SEIZE, child, 0, 0) == -1 && errno == EPERM);
    CHECK(waitpid(child, NULL, WNOHANG) == 0);
    /* Makes the read appear to have returned. */
    struct user_regs_struct regs, changed;
    stop_in_read(child, &regs);
    changed = regs;
    changed.rax = 1;             /* the read has returned a byte, */
    changed.orig_rax = (unsigned long)-1;
    CHECK(ptrace(PTRACE_SETREGS, child, 0, &changed) == 0);
    long around = ptrace(PTRACE_PEEKDATA, child, regs.rsi, 0);
    CHECK(ptrace(PTRACE_POKEDATA, child, regs.rsi, (around & ~0xffl) | 'c') == 0); /* and here it is */
    struct user_fpregs_struct floats;
    CHECK(ptrace(PTRACE_GETFPREGS, child, 0, &floats) == 0);
    CHECK(ptrace(PTRACE_SETFPREGS, child, 0, &floats) == 0);
    static char xstate[16384];
    struct iovec vector = {xstate, sizeof xstate};
    CHECK(ptrace(PTRACE_GETREGSET, child, NT_X86_XSTATE, &vector) == 0 && vector.iov_len >= 512);
    CHECK(ptrace(PTRACE_SETREGSET, child, NT_X86_XSTATE, &vector) == 0);
    vector = (struct iovec){&floats, sizeof floats};
    CHECK(ptrace(PTRACE_GETREGSET, child, NT_PRFPREG, &vector) == 0 && vector.iov_len == sizeof floats);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    read_all(from, told, sizeof told);
    go_on(to, from, told, 'n');
    /* The registers are changed and changed back: the read continues as if nothing had happened. */
    CHECK(ptrace(PTRACE_INTERRUPT, child, 0, 0) == 0);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WSTOPPED | WNOWAIT) == 0);
    CHECK(info.si_pid == child && info.si_code == CLD_TRAPPED && info.si_status == (SIGTRAP | PTRACE_EVENT_STOP << 8));
    CHECK(waitid(P_ALL, 0, &info, WSTOPPED) == 0 && info.si_pid == child);
    info.si_pid = 1;
    CHECK(waitid(P_ALL, 0, &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    stop_in_read(child, &regs);
    changed = regs;
    changed.rax = 0;
    changed.orig_rax = (unsigned long)-1;
    CHECK(ptrace(PTRACE_SETREGS, child, 0, &changed) == 0);
    CHECK(ptrace(PTRACE_SETREGS, child, 0, &regs) == 0);
    CHECK(ptrace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, r15), regs.r15) == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    go_on(to, from, told, 'q');
    int status;
    CHECK(waitpid(-1, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

int main(void) {
    int in[2], out[2];
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        be_traced(in[0], out[1]);
    }
    long told[2];
    go_on(in[1], out[0], told, 'n');
    look_at(child, in[1], out[0]);
    seize(child, in[1], out[0]);
    CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == -1 && errno == ESRCH);
    CHECK(ptrace(PTRACE_ATTACH, getpid(), 0, 0) == -1 && errno == EPERM);
    return 0;
}

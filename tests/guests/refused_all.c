// guest: special
/* Calls that a recording refuses with a warning: each returns its documented errno, twice, and the
 * program continues. */
#include "guest.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

static void refused(const char *name, long result, int expected) {
    int error = errno;
    if (result != -1 || error != expected) {
        dprintf(2, "%s: %ld, errno %d\n", name, result, error);
        _exit(98);
    }
    printf("%s\n", name);
}

int main(void) {
    static char memory[4096];
    static struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    static struct sock_fprog filter = {1, &allow};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    for (int i = 0; i < 2; i++) {
        refused("io_uring_setup", syscall(SYS_io_uring_setup, 4, memory), ENOSYS);
        refused("io_uring_enter", syscall(SYS_io_uring_enter, 3, 1, 0, 0, NULL, 0), ENOSYS);
        refused("fanotify_init", syscall(SYS_fanotify_init, 4, 0), EINVAL);
        refused("perf_event_open", syscall(SYS_perf_event_open, memory, 0, -1, -1, 0), ENOSYS);
        refused("ptrace", ptrace(PTRACE_ATTACH, getppid(), NULL, NULL), EPERM);
        refused("bpf", syscall(SYS_bpf, 0, memory, 64), EPERM);
        refused("seccomp", syscall(SYS_seccomp, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter), EINVAL);
        refused("vmsplice", syscall(SYS_vmsplice, 1, memory, 0, 0), ENOSYS);
        refused("modify_ldt", syscall(SYS_modify_ldt, 0, memory, 16), ENOSYS);
        refused("reboot", syscall(SYS_reboot, 0, 0, 0, NULL), EPERM);
        /* No warning: no kernel knows it. */
        CHECK(syscall(400) == -1 && errno == ENOSYS);
    }
    return 0;
}

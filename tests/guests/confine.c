// guest: special
/* Runs a program under a seccomp filter: confine perf-eperm|perf-enosys|getpid-eperm|ptrace-eperm|docker
 * PROGRAM ARGS...
 *
 * `docker` does the same as Docker's default profile (moby, profiles/seccomp/default.json) for a container
 * without further capabilities. That profile lists the allowed calls; all others fail with EPERM, and clone3
 * fails with ENOSYS, so that C libraries fall back to clone, whose flags a filter can see. This filter lists the
 * calls of x86-64 that are not allowed instead. */
#include "guest.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* Calls that are not allowed without capabilities. (ptrace and process_vm_readv are allowed from Linux
 * 4.8 on.) */
static const int refused[] = {
    SYS_acct, SYS_add_key, SYS_bpf, SYS_clock_settime, SYS_create_module, SYS_delete_module, SYS_fanotify_init,
    SYS_finit_module, SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick, SYS_get_kernel_syms, SYS_get_mempolicy,
    SYS_init_module, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup, SYS_ioperm, SYS_iopl, SYS_kcmp,
    SYS_kexec_file_load, SYS_kexec_load, SYS_keyctl, SYS_lookup_dcookie, SYS_mbind, SYS_migrate_pages, SYS_mount,
    SYS_mount_setattr, SYS_move_mount, SYS_move_pages, SYS_nfsservctl, SYS_open_by_handle_at, SYS_open_tree,
    SYS_perf_event_open, SYS_pidfd_getfd, SYS_pivot_root, SYS_process_madvise, SYS_query_module, SYS_quotactl,
    SYS_quotactl_fd, SYS_reboot, SYS_request_key, SYS_set_mempolicy, 450 /* set_mempolicy_home_node */, SYS_setdomainname,
    SYS_sethostname, SYS_setns, SYS_settimeofday, SYS_swapoff, SYS_swapon, SYS_sysfs, SYS_syslog, SYS__sysctl, SYS_umount2,
    SYS_unshare, SYS_uselib, SYS_userfaultfd, SYS_ustat, SYS_vhangup, SYS_vserver, SYS_security, SYS_tuxcall,
    SYS_afs_syscall, SYS_getpmsg, SYS_putpmsg, SYS_epoll_ctl_old, SYS_epoll_wait_old,
};

static struct sock_filter program[256];
static unsigned short length;

static void add(unsigned short code, unsigned k, unsigned char yes, unsigned char no) {
    CHECK(length < sizeof program / sizeof *program);
    program[length++] = (struct sock_filter){code, yes, no, k};
}
static void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0); }
static void answer_if(unsigned value, unsigned answer) {
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    add(BPF_RET | BPF_K, answer, 0, 0);
}
#define NUMBER offsetof(struct seccomp_data, nr)
#define ARGUMENT offsetof(struct seccomp_data, args[0])

int main(int count, char **words) {
    CHECK(count > 2);
    const unsigned refuse = SECCOMP_RET_ERRNO | EPERM, missing = SECCOMP_RET_ERRNO | ENOSYS;
    load(NUMBER);
    if (strcmp(words[1], "getpid-eperm") == 0) {
        answer_if(SYS_getpid, refuse);
    } else if (strcmp(words[1], "ptrace-eperm") == 0) {
        answer_if(SYS_ptrace, refuse);
    } else if (strcmp(words[1], "docker") != 0) {
        answer_if(SYS_perf_event_open, strcmp(words[1], "perf-enosys") == 0 ? missing : refuse);
    } else {
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
            answer_if((unsigned)refused[i], refuse);
        }
        answer_if(SYS_clone3, missing);
        /* No new namespaces. */
        add(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
        load(ARGUMENT);
        add(BPF_JMP | BPF_JSET | BPF_K, 2114060288, 0, 1);
        add(BPF_RET | BPF_K, refuse, 0, 0);
        load(NUMBER);
        add(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3);
        load(ARGUMENT);
        answer_if(AF_VSOCK, refuse);
        load(NUMBER);
        /* Of personalities: none, UNAME26, PER_LINUX32, both, and to ask for it. */
        add(BPF_JMP | BPF_JEQ | BPF_K, SYS_personality, 0, 7);
        load(ARGUMENT);
        add(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, 0);
        add(BPF_JMP | BPF_JEQ | BPF_K, 8, 4, 0);
        add(BPF_JMP | BPF_JEQ | BPF_K, 0x20000, 3, 0);
        add(BPF_JMP | BPF_JEQ | BPF_K, 0x20008, 2, 0);
        add(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffff, 1, 0);
        add(BPF_RET | BPF_K, refuse, 0, 0);
    }
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    struct sock_fprog filter = {length, program};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0);
    execvp(words[2], words + 2);
    perror(words[2]);
    return 127;
}

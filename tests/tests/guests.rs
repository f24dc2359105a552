//! Every guest program through the matrix: recorded with all classes of checkpoint intervals, replayed
//! from the start and from checkpoints, verified. There is one test for each guest, so that they run in
//! parallel and fail by name.

// A broken expectation in a test is a failed test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use rr_tests::guest::{Guest, names};
use rr_tests::matrix;

macro_rules! guests {
    (works { $($name:ident)* } waits { $($waiting:ident $for:literal)* }) => {
        $(
            #[test]
            fn $name() {
                matrix(stringify!($name));
            }
        )*
        $(
            #[test]
            #[ignore = $for]
            fn $waiting() {
                matrix(stringify!($waiting));
            }
        )*

        /// A source without a test would be a promise that nobody keeps.
        #[test]
        fn every_guest_is_in_the_list() {
            let listed = [$(stringify!($name),)* $(stringify!($waiting)),*];
            for name in names() {
                assert!(
                    listed.contains(&name.as_str()) || Guest::build(&name).special,
                    "guests/{name}.c is not in the list of tests/guests.rs"
                );
            }
        }
    };
}

guests! {
    works {
        abort
        advice_pairs
        alarm_eintr
        alarm_restart
        altstack_bad
        args
        asan
        aslr
        auxv
        bad_pointers
        big_output
        big_rss
        blocked_control
        blocked_large
        brk
        buffered_memory
        buffered_messages
        buffered_tsc
        buffered_waits
        child_deaths
        child_memory
        children_file
        clone3
        clone3_raw
        clone_vm
        close_all
        closed_stdio
        computed_jumps
        cpuid
        datagrams
        descriptors
        dumpable
        epoll
        etxtbsy
        event_fds
        exec_big_env
        exec_chain
        exec_fail
        exec_leaves
        exec_relative
        exit7
        exit_group_race
        exit_group_raw
        fair_turns
        fault_handlers
        fifo
        file_limit
        file_ops
        flock_released
        foreign_calls
        fork_deep
        fork_many
        fork_memory
        fork_tree
        futex
        futex_ops
        getdents
        group_stop
        grows_down
        half_done
        handler_state
        hello
        high_bits
        huge_pages
        ids
        interrupt_io
        interrupt_wait
        ipc_queues
        jit
        jit_flips
        job_control
        kill_group_self
        kill_own_group
        kill_zero
        killed_computing
        large_read
        leak_lsan
        lease
        loop_alarm
        loop_jumps
        loop_same
        madv_free
        madvise
        many_fds
        many_objects
        maps
        maps_hidden
        memfd
        memory_calls
        memfd_splice
        mmap_fail
        mmap_mix
        mremap
        much_data
        namespace_init
        namespaces
        nolibc
        nopie
        pgid
        pi_futex
        pidfds
        pipe_big
        pipe_copies
        pipe_eof
        pipe_small
        poll
        posix_shm
        posix_timer
        prctls
        priority_order
        priority_spin
        private_and_shared
        private_file
        private_resized
        private_written
        proc_self
        process_vm
        processes_100
        prot_none
        ptrace_attach
        ptrace_calls
        ptrace_crash
        ptrace_filters
        ptrace_groups
        ptrace_steps
        ptrace_tracers
        ptrace_watches
        pty
        pty_jobs
        raise
        random
        read_overlap
        refused
        registers
        reserved
        rseq
        seccomp_errors
        seccomp_install
        seccomp_int80
        seccomp_kills
        seccomp_threads
        seccomp_trap
        segment_bases
        segv
        segv_fix
        self_memory
        shared_anon
        shared_clean
        shared_file
        shared_readonly
        shared_spin
        shared_upgrade
        shebang
        sigchld_blocked
        sigchld_count
        sigfpe
        sigill
        sigkill_self
        signal_altstack
        signal_between
        signal_details
        signal_in_fork
        signal_mask_exec
        signal_nested
        signal_queue
        signal_stashed
        signal_wait
        sigpipe
        sigterm_self
        sleep_restart
        socket_close
        socket_options
        sparse
        sparse_huge
        spawn
        spin_hands
        spin_wait
        splice
        stack_deep
        stack_overflow
        stack_protection
        static_nopie
        static_pie
        stdio_mix
        step_self
        stubs_lost
        subreaper
        sysinfo
        sysv_shm
        tcp
        thread_exec
        thread_exec_race
        thread_exit_group
        thread_exits
        thread_fork
        thread_pipes
        thread_robust
        thread_signals
        threads
        threads_200
        time
        time_busy
        timer_fast
        timer_storm
        trap_signals
        tsc
        tsc_loops
        tsc_denied
        tsc_regs
        tsc_signals
        unix_sockets
        unknown_syscall
        unlinked
        vfork_busy
        vfork_exec
        vfork_killed
        user_dispatch
        vsyscall
        wait_echild
        wait_stopped
        wait_variants
        write_left
        write_own_code
        write_raced
        xattrs
        xstate
        zero_pages
        zombie
    }
    // For each the reason.
    waits {
    }
}

//! Signals have numbers of their own on the wire, whatever the target's system calls them.
//!
//! gdb's numbers (GDB manual, "Remote Serial Protocol", which refers to gdb's `signals.def`) agree with Linux's for
//! most of the first fifteen only. Numbers of Linux stay inside: what a packet says is converted here, both ways.

/// gdb's number for a signal that it has no number for (`SIGSTKFLT`).
pub const UNKNOWN: u8 = 143;
/// gdb's `SIGINT`.
pub const INTERRUPT: u8 = 2;
/// gdb's `SIGTRAP`.
pub const TRAP: u8 = 5;
/// gdb's `SIGKILL`.
pub const KILL: u8 = 9;

/// Pairs of Linux's number and gdb's, for the signals that have a name.
const NAMED: [(i32, u8); 30] = [
    (libc::SIGHUP, 1),
    (libc::SIGINT, INTERRUPT),
    (libc::SIGQUIT, 3),
    (libc::SIGILL, 4),
    (libc::SIGTRAP, TRAP),
    (libc::SIGABRT, 6),
    (libc::SIGFPE, 8),
    (libc::SIGKILL, KILL),
    (libc::SIGBUS, 10),
    (libc::SIGSEGV, 11),
    (libc::SIGSYS, 12),
    (libc::SIGPIPE, 13),
    (libc::SIGALRM, 14),
    (libc::SIGTERM, 15),
    (libc::SIGURG, 16),
    (libc::SIGSTOP, 17),
    (libc::SIGTSTP, 18),
    (libc::SIGCONT, 19),
    (libc::SIGCHLD, 20),
    (libc::SIGTTIN, 21),
    (libc::SIGTTOU, 22),
    (libc::SIGIO, 23),
    (libc::SIGXCPU, 24),
    (libc::SIGXFSZ, 25),
    (libc::SIGVTALRM, 26),
    (libc::SIGPROF, 27),
    (libc::SIGWINCH, 28),
    (libc::SIGUSR1, 30),
    (libc::SIGUSR2, 31),
    (libc::SIGPWR, 32),
];

/// gdb's number of a Linux signal.
pub fn to_gdb(signo: i32) -> u8 {
    if let Some((_, gdb)) = NAMED.iter().find(|(linux, _)| *linux == signo) {
        return *gdb;
    }
    match signo {
        32 => 77,
        // 45 is real-time signal 33, and so on.
        33..=63 => u8::try_from(signo + 12).unwrap_or(UNKNOWN),
        64 => 78,
        _ => UNKNOWN,
    }
}

/// The Linux signal that gdb means, if Linux has it.
pub fn from_gdb(number: u64) -> Option<i32> {
    (1..=64).find(|&signo| u64::from(to_gdb(signo)) == number && to_gdb(signo) != UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for signo in (1..=64).filter(|&signo| signo != libc::SIGSTKFLT) {
            assert_eq!(from_gdb(u64::from(to_gdb(signo))), Some(signo), "{signo}");
        }
        assert_eq!(to_gdb(libc::SIGSTKFLT), UNKNOWN);
        assert_eq!(from_gdb(u64::from(UNKNOWN)), None);
        assert_eq!(to_gdb(63), 75);
        // SIGEMT, which Linux does not have on x86-64.
        assert_eq!(from_gdb(7), None);
    }
}

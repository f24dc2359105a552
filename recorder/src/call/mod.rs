//! System calls: from the entry to the event.

pub(crate) mod answer;
pub mod cores;
pub(crate) mod output;
pub(crate) mod pi_futex;
pub(crate) mod prctl;
pub(crate) mod procfs_emulation;
pub(crate) mod redirect;
pub(crate) mod rseq;
pub(crate) mod scratch;
pub(crate) mod syscall;
pub(crate) mod unsupported_abi;
pub(crate) mod user_dispatch;
pub(crate) mod vsyscall;

//! System calls, from the entry to the event.
//!
//! A new call is an entry in the table (`tracee/src/syscalls/`). A call that the table alone cannot describe gets a file here, in `memory/`
//! or in `task/`, and a line in [`emulated`].
//!
//! | file | concept |
//! |---|---|
//! | `entry` | the entry of a call |
//! | `emulated` | calls that the table alone cannot describe: who handles them |
//! | `enter` | letting the kernel make a call |
//! | `answer` | calls that are not made: the program gets our answer |
//! | `exit` | the exit of a call |
//! | `record` | the event of a call |
//! | `registers` | registers before and after a call |
//! | `parameters` | parameters and answers of calls that rr carries out |
//! | `plain_file` | descriptors of calls that never wait for a tracee |
//! | `scratch` | memory for the outputs of calls that may block |
//! | `redirect` | the outputs of such a call there |
//! | `unsupported_abi` | 32-bit code: refused |
//! | `vsyscall` | calls of the vsyscall page |
//! | `aio` | Linux AIO |
//! | `prctl` | prctl(2) |
//! | `arch_prctl` | arch_prctl(2) |
//! | `rseq` | restartable sequences |
//! | `user_dispatch` | calls that become signals at the program's wish |
//! | `pi_futex` | futexes with priority inheritance |
//! | `cores` | the CPUs that a program sees |
//! | `output` | writes to our own standard output |
//! | `maps_text` | the text of `/proc/PID/maps` as the program must see it |
//! | `procfs_emulation` | `/proc/PID/maps` and `mem` of recorded processes |

pub(crate) mod affinity;
pub(crate) mod aio;
pub(crate) mod answer;
pub(crate) mod arch_prctl;
pub mod cores;
pub(crate) mod emulated;
pub(crate) mod enter;
pub(crate) mod entry;
pub(crate) mod exit;
mod maps_text;
pub(crate) mod output;
pub(crate) mod parameters;
pub(crate) mod pi_futex;
pub(crate) mod plain_file;
pub(crate) mod prctl;
pub(crate) mod procfs_emulation;
pub(crate) mod record;
pub(crate) mod redirect;
pub(crate) mod registers;
pub(crate) mod rseq;
pub(crate) mod scratch;
pub(crate) mod unsupported_abi;
pub(crate) mod user_dispatch;
pub(crate) mod vsyscall;

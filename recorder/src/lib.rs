//! `RecordSession`: runs a tree of processes under ptrace and records everything that enters it.
//!
//! Keeps I1 (one tracee runs), I2 (nothing leaks in) and I3 (kernel writes are placed).
//! `docs/architecture.md` lists all invariants.
//!
//! | module | concept |
//! |---|---|
//! | [`launch`] | from `fork` to the program's first instruction |
//! | [`confined`] | a seccomp filter that we run under |
//! | [`inherited`] | state that rr changes for itself and restores for the program |
//! | [`terminate`] | ending a recording from outside |
//! | [`session`] | the tasks, and running one of them to its next stop |
//! | `session::events` | the events: their numbers and order, and writing them to the trace |
//! | `session::end` | the end of a recording |
//! | `session::turns` | the loop that runs one task after the other |
//! | `table` | the table of all tasks |
//! | `contention` | tasks that starve for a lock |
//! | [`scheduler`] | the choice of the next task |
//! | [`chaos`] | the dice of chaos mode |
//! | `syscall` | system calls: from the entry to the event |
//! | `scratch` | memory for the outputs of calls that may block |
//! | `placed` | the outputs of such a call there |
//! | `buffer` | the library in the tracees |
//! | `ring` | the library's buffer for programs that record much |
//! | `sites` | sending system call sites to the library |
//! | `rewritten` | restoring rewritten code |
//! | `hardware_random` | `RDRAND` and `RDSEED` |
//! | `special` | calls that shape the address space, and calls that rr answers |
//! | `answered` | calls that rr carries out instead of the kernel |
//! | `seccomp` | rr's own filter, and those of the program |
//! | `prctl` | prctl(2) |
//! | `user_dispatch` | calls that become signals at the program's wish |
//! | `rseq` | restartable sequences |
//! | `advice` | the effects of `madvise` |
//! | `process_advice` | `process_madvise` |
//! | `secret` | `memfd_secret` |
//! | `pi_futex` | futexes with priority inheritance |
//! | `tasks` | `clone` and exit |
//! | `newborn` | tasks between their creation and their parent's event |
//! | `unfinished` | memory changed by a killed task that another process shares |
//! | `exec` | `execve` |
//! | `privileges` | privileges that a program does not get while it is traced |
//! | `foreign` | 32-bit code: refused |
//! | `vsyscall` | calls of the vsyscall page |
//! | `signals` | signals and instructions that trap |
//! | `ptrace` | ptrace(2) between recorded tasks |
//! | `groups` | signals to the group that the recorder is in |
//! | `point` | ending an interval without an event of the program |
//! | `mapped` | mapped files and shared memory |
//! | `objects` | writes to files that are mapped shared |
//! | `private_files` | writes to files that are mapped privately |
//! | [`cores`] | the CPUs that a program sees |
//! | `own_files` | `/proc/PID/maps` and `mem` of recorded processes |
//! | `output` | writes to our own standard output |
//! | `check` | the model of memory against the kernel's |
//! | [`capture`] | freezing everything for a checkpoint |
//! | `capture::forks` | the frozen forks for that |
//! | [`stats`] | the costs of a recording |

mod advice;
mod answered;
mod buffer;
pub mod capture;
mod carrier;
pub mod chaos;
mod check;
pub mod confined;
mod contention;
pub mod cores;
mod edits;
pub mod error;
mod exec;
mod forced;
mod foreign;
mod groups;
mod guarded;
mod hardware_random;
pub mod inherited;
mod known_sites;
pub mod launch;
mod mapped;
mod newborn;
mod objects;
mod output;
mod own_files;
mod pi_futex;
mod placed;
mod point;
mod prctl;
mod private_files;
mod privileges;
mod process_advice;
mod ptrace;
mod rewritten;
mod ring;
mod rseq;
pub mod scheduler;
mod scratch;
mod seccomp;
mod secret;
pub mod session;
mod signals;
mod sites;
mod special;
pub mod stats;
mod syscall;
mod table;
mod task;
mod tasks;
pub mod terminate;
mod unfinished;
mod user_dispatch;
mod vsyscall;

pub use capture::Capture;
pub use error::{Error, Result};
pub use inherited::Inherited;
pub use launch::Command;
pub use scheduler::Schedule;
pub use session::{Crash, End, Options, RecordSession, Summary};
pub use stats::Stats;
pub use terminate::Terminator;

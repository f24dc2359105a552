//! `RecordSession`: runs a tree of processes under ptrace and records everything that enters it.
//!
//! Keeps I1 (one tracee runs), I2 (nothing leaks in) and I3 (kernel writes are placed).
//! `docs/architecture.md` lists all invariants.
//!
//! [`session`] says who owns what. The folders, each with a table of its files in its `mod.rs`:
//!
//! | folder | concept |
//! |---|---|
//! | `start` | from `fork` to the program's first instruction; signals to rr itself |
//! | `drive` | the loop that runs one task after the other; the scheduler and chaos mode; the end |
//! | `world` | the model: tasks, address spaces, files and objects |
//! | `log` | the events: their numbers and order, and writing them to the trace |
//! | `call` | system calls, from the entry to the event; calls that rr answers |
//! | `memory` | calls that shape address spaces; mapped files and shared memory objects |
//! | `task` | clone, exec and exit |
//! | `signal` | signals, and instructions that trap |
//! | `userfault` | userfaultfd(2): page faults that the program handles |
//! | `ptrace` | ptrace(2) between recorded tasks |
//! | `seccomp` | rr's own filter, and those of the program |
//! | `buffer` | the system call buffer: the library in the tracees, and the code that is rewritten to reach it |
//! | `point` | execution points: the end of an interval without an event of the program |
//! | `checkpoint` | when a checkpoint is due, and freezing everything for it |
//! | `policy` | what the user asked for and is told |

mod buffer;
mod call;
mod checkpoint;
mod drive;
pub mod error;
mod log;
mod memory;
mod point;
mod policy;
mod ptrace;
mod seccomp;
pub mod session;
mod signal;
mod start;
mod task;
mod userfault;
mod world;

pub use call::cores;
pub use checkpoint::capture::{self, Capture};
pub use drive::chaos;
pub use drive::end::{End, Summary};
pub use drive::scheduler::{self, Schedule};
pub use error::{Error, Result};
pub use log::crash::Crash;
pub use policy::options::{Options, Processor};
pub use policy::stats::{self, Stats};
pub use session::RecordSession;
pub use start::inherited::{self, Inherited};
pub use start::launch::{self, Command};
pub use start::outer_seccomp;
pub use start::terminate::{self, Terminator};

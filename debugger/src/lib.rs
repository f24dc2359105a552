//! The gdb remote server: it lets gdb, or another front end that speaks its protocol, debug a replay.
//!
//! One thread answers packets and runs the program; the replay is behind one trait, [`Target`]. The invariant:
//! every byte of a client is untrusted. Whatever arrives, in whatever order, is answered or ignored as the protocol
//! says; nothing here panics, and no packet makes the server keep more than a bounded amount of memory.
//!
//! The protocol layer is rr's own, laid out as the gdbstub crate is (one file for one packet or family). gdbstub
//! (0.7.10) has no way to carry `qXfer:siginfo:read`, `QPassSignals`, `qSearch:memory`, `qXfer:threads:read`, fork,
//! vfork and exec events, conditions of breakpoints as bytecode, or packets that it does not know (`qRRCmd`).
//!
//! | module | concept |
//! |---|---|
//! | [`target`] | the interface between the server and a replay |
//! | [`connection`] | bytes, acknowledgements, packets; listening |
//! | [`replay`] | a replay as a [`Target`] |
//! | [`server`] | the loop, the state between packets, stop replies |
//! | `packets` | one file for each packet or family |
//! | `open_files` | the files that a client has open |
//! | [`registers`] | the target description, and registers in its order |
//! | [`agent`] | conditions of breakpoints |
//! | [`signals`] | gdb's numbers of signals and Linux's |
//! | [`script`] | rr's commands as commands of gdb |
//! | `hex`, `ids` | numbers and thread ids as the protocol writes them |

pub mod agent;
pub mod connection;
pub mod error;
mod hex;
mod ids;
#[cfg(any(test, feature = "mock"))]
pub mod mock;
mod open_files;
mod packets;
pub mod registers;
pub mod replay;
pub mod script;
pub mod server;
pub mod signals;
pub mod target;

pub use connection::{Channel, Connection, Listener};
pub use error::{Error, Result};
pub use replay::ReplayTarget;
pub use server::{Ended, serve};
pub use target::{
    Action, Condition, Direction, Interrupt, PointKind, RegisterFile, Restart, Stop, StopOptions, Target,
    TargetError, Thread,
};

//! End-to-end tests: guest programs, and the harness that records and replays them.
//!
//! The harness drives the `rr` binary from outside, as a user does, and knows nothing of its internals.
//! It asserts rr's promises to a user: the recorded program behaves as without rr, a replay shows the
//! same bytes from the start and from every checkpoint, and `rr verify` finds no difference.
//!
//! * [`guest`]: the small C programs in `guests/`, compiled on first use;
//! * [`mod@run`]: a command with a time limit whose whole process group ends with it;
//! * [`rr`]: the `rr` binary, its commands, the traces it makes (in temporary directories, removed afterwards);
//! * [`mod@matrix`]: one program through all ways of recording and replaying;
//! * [`gdb`]: a replay debugged with gdb, by scripts of commands and expected outputs;
//! * [`terminal`]: a command on a terminal of its own;
//! * [`damage`]: broken copies of traces, and all commands tried on them;
//! * [`programs`]: inputs for tests of real programs;
//! * [`documents`]: the documents of the repository: their commands and their links;
//! * [`imports`]: the imports between the files of a crate.
//!
//! Environment: `RR_BIN` names the binary to test (otherwise it is built in this workspace); `RR_TESTS=full`
//! runs everything at full size; `RR_TESTS_KEEP=1` leaves traces behind for inspection.

// The harness exists for tests only: a broken expectation in it is a failed test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

pub mod damage;
pub mod documents;
pub mod gdb;
pub mod guest;
pub mod imports;
pub mod matrix;
pub mod programs;
pub mod rr;
pub mod run;
pub mod terminal;

pub use guest::{Ending, Guest};
pub use matrix::{NO_CHECKPOINTS, Plan, matrix};
pub use rr::{Checkpoint, Recording, Rr, TraceInfo};
pub use run::{Run, run};

/// Returns whether everything is tested at full size (`RR_TESTS=full`), or only the quick selection for
/// every change.
pub fn full() -> bool {
    std::env::var_os("RR_TESTS").is_some_and(|value| value == "full")
}

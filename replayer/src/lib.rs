//! `ReplaySession`: events back into tasks.
//!
//! Replay needs no knowledge of system calls: what a call did to tasks, address spaces and memory stands in its
//! event. No kernel object of the recorded program (file, socket, timer) exists here. Keeps I7 (no silent
//! divergence) and, with the `checkpoint` crate, I4 and I6.
//!
//! | module | concept |
//! |---|---|
//! | [`session`] | events, one after the other |
//! | `session::tasks` | how tasks come and go |
//! | `task` | one replayed task, and how it runs to its next event |
//! | `point` | finding an execution point |
//! | `probe` | the code that looks for it in the task itself |
//! | `space` | operations on address spaces, done for real |
//! | `objects` | shared memory objects, done for real |
//! | `buffer` | the library in the tasks, and what it is given |
//! | `blank` | empty processes that replayed tasks are made from |
//! | `family` | what a session, its live checkpoints and the sessions from those share |
//! | [`live`] | live checkpoints |
//! | `affinity` | on which CPU |
//! | `resume` | from a checkpoint, to an image, and comparing the two |
//! | `same` | comparing two sessions |

mod affinity;
mod blank;
mod buffer;
pub mod error;
mod family;
pub mod live;
mod objects;
mod point;
mod probe;
mod resume;
mod same;
pub mod session;
mod space;
mod task;

pub use error::{Divergence, Error, Result};
pub use live::LiveCheckpoint;
pub use session::{ReplaySession, Replayed};

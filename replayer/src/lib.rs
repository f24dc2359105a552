//! `ReplaySession`: events back into tasks.
//!
//! Replay needs no knowledge of system calls: what a call did to tasks, address spaces and memory stands in its
//! event. (Only what it handed out is looked at, to compare it.) No kernel object of the recorded program (file, socket, timer) exists here. Keeps I7 (no silent
//! divergence) and, with the `checkpoint` crate, I4 and I6.
//!
//! | module | concept |
//! |---|---|
//! | [`session`] | events, one after the other |
//! | `session::tasks` | how tasks come and go |
//! | `pending` | the event under way |
//! | [`diversion`] | a copy that goes where the recording never went |
//! | `drive` | the session by single halts, with its position |
//! | `run` | the one runner: how a task executes up to its event |
//! | `arrival` | where an interval ends |
//! | [`position`] | names for the places of a replay |
//! | `point` | finding an execution point |
//! | `probe` | the code that looks for it in the task itself |
//! | `key` | what that compares first |
//! | `sprint` | most of the way there without it |
//! | `overlay` | bytes in the code that are not the program's |
//! | `breakpoints` | the debugger's breakpoints among them |
//! | `sites` | rewritten system call sites, and the program's code there |
//! | `passes` | passing over breakpoints, and counting without stops |
//! | [`condition`] | conditions of breakpoints, evaluated in the task |
//! | `kept_off` | what such conditions do not read |
//! | `words` | where code of ours in a task keeps what it works with |
//! | `place` | places that are named by their state |
//! | `watch` | the debugger's watchpoints |
//! | [`timeline`] | the replay as a line to move along, forwards and backwards |
//! | `task` | one replayed task |
//! | `halt`, `interrupt` | how a task goes on and why it stops, and the user's wish that it does |
//! | `space` | operations on address spaces, done for real |
//! | `objects` | shared memory objects, done for real |
//! | `backings` | what mappings are mappings of: files of the trace, and those objects |
//! | `buffer` | the library in the tasks, and what it is given |
//! | `payload` | what calls hand to the outside world, compared with what was recorded |
//! | `zygote` | empty processes that replayed tasks are made from |
//! | `family` | what a session, its live checkpoints and the sessions from those share |
//! | [`live`] | live checkpoints |
//! | `capture`, `frozen` | what a stored checkpoint is made of, and the forks for it |
//! | [`stretch`] | a trace cut at its stored checkpoints, replayed on all CPUs |
//! | [`mod@verify`] | whether a replay gives back what was recorded |
//! | [`create`] | adding checkpoints to a trace |
//! | `compare` | comparing a session with a stored checkpoint |
//! | `symbols` | names for places in the files of a trace |
//! | `affinity` | on which CPU |
//! | `resume` | from a checkpoint, and to an image |
//! | `same` | comparing two sessions |

mod affinity;
mod arrival;
mod backings;
mod breakpoints;
mod buffer;
mod capture;
mod compare;
pub mod condition;
pub mod create;
pub mod diversion;
mod drive;
pub mod error;
mod failure;
mod family;
mod frozen;
mod halt;
mod interrupt;
mod kept_off;
mod key;
pub mod live;
mod objects;
mod overlay;
mod passes;
mod payload;
mod pending;
mod place;
mod point;
pub mod position;
mod probe;
mod resume;
mod run;
mod same;
pub mod session;
mod sites;
mod space;
mod sprint;
pub mod stretch;
mod symbols;
mod task;
pub mod timeline;
pub mod verify;
mod watch;
mod words;
mod zygote;

pub use affinity::{claim_for_replay, cpu_for_replay};
pub use compare::Mismatch;
pub use error::{Divergence, Error, Result};
pub use interrupt::{Interrupt, Never};
pub use live::LiveCheckpoint;
pub use position::Position;
pub use session::{ReplaySession, Replayed};
pub use timeline::Timeline;

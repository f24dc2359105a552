//! `ReplaySession`: plays the recorded events back into tasks.
//!
//! Replay needs no knowledge of system calls: each event contains the effects of its call on tasks,
//! address spaces and memory. (Replay looks only at the data that a call handed out, to compare it.)
//! Kernel objects of the recorded program (files, sockets, timers) do not exist in a replay.
//! Invariants: I7 (no silent divergence) and, with the `checkpoint` crate, I4 and I6.
//!
//! | module | concept |
//! |---|---|
//! | [`session`] | one replay, and its owners: |
//! | `events` | the trace's events, and which of them have been replayed |
//! | `world` | the model of the program: tasks, address spaces, objects |
//! | `code` | where the tasks' code is not the program's |
//! | `stoppoints` | breakpoints and watchpoints |
//! | `interval` | the way to the next event |
//! | `step` | replay of one whole event |
//! | `apply` | what an event does to tasks, address spaces and memory |
//! | `far_bases` | bases of FS and GS that only the task itself can set |
//! | `tasks` | creation and end of tasks |
//! | `pending` | the event under way |
//! | [`diversion`] | a copy of a session that leaves the recorded course |
//! | `drive` | the session in single halts, with its position |
//! | [`single_steps`] | a whole replay, instruction by instruction |
//! | `run` | the one runner: it executes a task up to its event |
//! | `arrival` | the end of an interval |
//! | [`position`] | names for the places of a replay |
//! | `point` | search for an execution point |
//! | `probed` | the place of the probe, and stubs of breakpoints in its way |
//! | `probe` | code that searches for the point in the task itself |
//! | `key` | the first comparison of that code |
//! | `sprint` | fast execution of most of the way to a point |
//! | `own_code` | access to memory that has the program's own bytes |
//! | `code_changes` | patches and sites that a change of the memory makes out of date |
//! | `overlay` | bytes in the code that do not belong to the program |
//! | `breakpoints` | the debugger's breakpoints among them |
//! | `sites` | rewritten system call sites, and the program's code there |
//! | `passes` | passing over breakpoints, and counting without stops |
//! | [`condition`] | conditions of breakpoints, evaluated in the task |
//! | `kept_off` | memory that such conditions do not read |
//! | `words` | memory in a task that our own code works with |
//! | `place` | places named by their state |
//! | `watch` | the debugger's watchpoints |
//! | `cpuid_stop` | a `cpuid` that does not trap in replay |
//! | `marks` | breakpoints and watchpoints as marks that the position counts |
//! | [`timeline`] | the replay as a line to move along, forwards and backwards |
//! | `task` | one replayed task |
//! | `halt`, `interrupt` | resuming a task, the reasons for its stops, and the user's interrupt |
//! | `space` | operations on address spaces, made on real processes |
//! | `objects` | shared memory objects, as real files |
//! | `backings` | the files behind mappings: files of the trace, and shared memory objects |
//! | `buffer` | the library in the tasks, and the data that it is given |
//! | `payload` | comparison of the data that calls hand to the outside world with the recorded data |
//! | `zygote` | empty processes that replayed tasks are made from |
//! | `family` | state shared by a session, its live checkpoints and the sessions from those |
//! | [`live`] | live checkpoints |
//! | `capture`, `frozen` | the contents of a stored checkpoint, and the forks for it |
//! | [`stretch`] | a trace cut at its stored checkpoints, replayed on all CPUs |
//! | [`mod@verify`] | check that a replay reproduces the recording |
//! | [`create`] | adding checkpoints to a trace |
//! | `compare` | comparing a session with a stored checkpoint |
//! | `symbols` | names for places in the files of a trace |
//! | `affinity` | choice of the CPU |
//! | `machine` | comparison of the processor with the recorded one |
//! | `resume` | starting from a checkpoint, and from there to an image |
//! | `same` | comparison of two sessions |

mod affinity;
mod apply;
mod arrival;
mod backings;
mod breakpoints;
mod buffer;
mod capture;
mod code;
mod code_changes;
mod compare;
pub mod condition;
mod cpuid_stop;
pub mod create;
pub mod diversion;
mod drive;
pub mod error;
mod events;
mod failure;
mod family;
mod far_bases;
mod frozen;
mod halt;
mod interrupt;
mod interval;
mod kept_off;
mod key;
pub mod live;
mod machine;
mod marks;
mod objects;
mod overlay;
mod own_code;
mod passes;
mod payload;
mod pending;
mod place;
mod point;
pub mod position;
mod probe;
mod probed;
mod resume;
mod run;
mod same;
pub mod session;
pub mod single_steps;
mod sites;
mod space;
mod sprint;
mod step;
mod stoppoints;
pub mod stretch;
mod symbols;
mod task;
mod tasks;
pub mod timeline;
pub mod verify;
mod watch;
mod words;
mod world;
mod zygote;

pub use affinity::{claim_for_replay, cpu_for_replay, runs_anywhere};
pub use compare::Mismatch;
pub use error::{Divergence, Error, Result};
pub use interrupt::{Interrupt, Never};
pub use live::LiveCheckpoint;
pub use position::Position;
#[doc(hidden)]
pub use probe::Trial;
pub use session::{ReplaySession, Replayed};
#[doc(hidden)]
pub use sprint::Sprints;
pub use timeline::Timeline;

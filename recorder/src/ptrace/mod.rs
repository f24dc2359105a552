//! ptrace(2) between recorded tasks, emulated.
//!
//! A task can have only one tracer, which is the recorder. So if a recorded task (the *tracer*) makes
//! requests about another one (the *tracee*), the recorder carries them out. The tracer's requests are
//! events like any answered call. Their changes are recorded where they happen: memory as writes,
//! registers as [`SetRegisters`](rr_trace::event::EventKind::SetRegisters) of the tracee. So replay
//! knows nothing of tracers.
//!
//! Invariant: *a tracee stops for its tracer only at an event of its own* ([`tracee::Tracee::phase`]), or right
//! after one. There its registers are the program's, and the tracer's changes have a place in the order
//! of intervals. If the tracee has executed something since its last event (a fault, a signal at a
//! system call), the stop is that event. A tracee that is stopped for its tracer does not continue
//! ([`Task::is_runnable`](crate::world::task::Task::is_runnable)). For the kernel it is in one of the
//! recorder's stops.
//!
//! ```text
//!            PTRACE_ATTACH                             signal, asked for
//!  untraced ───────────────► Running ◄──────────────────────────────────────► Stopped ───► wait4(2) of the tracer
//!       ▲                      │  ▲                   PTRACE_CONT                │
//!       │                      │  └───────────────────────────────────────────── ┤
//!       └──────────────────────┴──── PTRACE_DETACH, the tracer dies ◄────────────┘
//! ```
//!
//! | module | concept |
//! |---|---|
//! | `request` | the call: permissions and dispatch |
//! | `access` | what a tracer may reach |
//! | `tracee` | the state of tracees and tracers |
//! | `relation` | attaching, detaching, and the end of either |
//! | `memory` | words of the tracee's memory |
//! | `registers` | the tracee's registers |
//! | `stops` | stopping for the tracer, and telling it |
//! | `resume` | continuing, with a signal or without |
//! | `calls` | stops at the entry and the exit of system calls |
//! | `steps` | single steps |
//! | `watches` | debug registers |
//! | `queued` | signals that are queued for the tracee |
//! | `family` | traced tasks that create tasks, execute a program or end |
//! | `wait` | wait4(2) and waitid(2) of tracers |
//! | `waiting` | waking tracers that wait |
//! | `info` | siginfo made by the recorder |

pub(crate) mod access;
pub(crate) mod calls;
pub(crate) mod family;
pub(crate) mod info;
pub(crate) mod memory;
pub(crate) mod queued;
pub(crate) mod registers;
pub(crate) mod relation;
pub(crate) mod request;
pub(crate) mod resume;
pub(crate) mod steps;
pub(crate) mod stops;
pub(crate) mod tracee;
pub(crate) mod wait;
pub(crate) mod waiting;
pub(crate) mod watches;

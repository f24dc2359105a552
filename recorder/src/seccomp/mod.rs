//! seccomp(2): rr's own filter, and those of recorded programs.
//!
//! rr's own filter ([`ours`]) turns every call of a tracee into a stop. The kernel never gets a
//! program's filters, because they would answer calls before rr sees them, and would also apply to rr's
//! own calls. Instead, the recorder runs them at the entry of each traced call, and acts on their
//! answer. In the trace, a refused call is a call with a result, a signal or an end like any other, so
//! the replayer knows nothing of filters.
//!
//! ```text
//! call of the program ─► library ─── is the number in the bitmap? ── yes ─► made without a stop, as every filter allows it
//!                           │ no                                           (allowed.rs shows that when a filter is installed)
//!                           ▼
//!                        stop ─► begin_call ─► pass_filters: run.rs ─┬─ allowed: the table says how to record it
//!                                                                    └─ else: actions.rs
//! ```
//!
//! Invariants: a call that the kernel would have refused is not made; and calls that rr makes for
//! itself are never subject to a program's filter.
//!
//! | module | concept |
//! |---|---|
//! | [`ours`] | the filter that makes recording possible |
//! | `program` | a filter's program, checked and decoded |
//! | `verdict` | a call, and the filters' answer to it |
//! | `filter` | a filter together with those before it |
//! | `confined` | a task's confinement |
//! | `run` | running a filter's program |
//! | `allowed` | calls that a filter allows whatever their arguments |
//! | `install` | the calls by which a program confines itself |
//! | `actions` | handling of calls that are not allowed |
//! | `vdso` | calls that the vDSO would have answered without a system call |
//! | `shown` | what a program reads of all this in `/proc` |

pub(crate) use actions::sigsys;

pub use allowed::Allowed;

pub use confined::Confined;

pub use verdict::Arch;

pub(crate) use verdict::Asked;

pub(crate) mod actions;

mod allowed;

mod confined;

mod filter;

pub(crate) mod install;

pub mod ours;

mod program;

mod run;

pub(crate) mod shown;

mod vdso;

mod verdict;

#[cfg(test)]
mod tests;

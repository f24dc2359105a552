//! seccomp(2): rr's own filter, and those of recorded programs.
//!
//! rr's own filter ([`ours`]) turns every call of a tracee into a stop. A program's filters are never given to the kernel, because
//! they would answer calls before rr hears of them, and rr's own calls too. The recorder runs them itself, at the entry of each
//! traced call, and does what they say. To replay, a call that they refuse is a call with a result, a signal or an end like any other:
//! so replay knows nothing of filters.
//!
//! ```text
//! call of the program ─► library ─── is the number in the bitmap? ── yes ─► made without a stop, as every filter allows it
//!                           │ no                                           (allowed.rs shows that when a filter is installed)
//!                           ▼
//!                        stop ─► begin_call ─► pass_filters: run.rs ─┬─ allowed: the table says how to record it
//!                                                                    └─ else: actions.rs
//! ```
//!
//! Keeps: what the kernel would have refused is not made; and what rr does on its own account is never subject to a program's filter.
//!
//! | module | concept |
//! |---|---|
//! | [`ours`] | the filter that makes recording possible |
//! | `program` | a filter's program, checked and decoded |
//! | `verdict` | a call, and what filters say of it |
//! | `filter` | a filter and those before it |
//! | `confined` | what a task is confined by |
//! | `run` | running it |
//! | `allowed` | calls that a filter allows whatever their arguments |
//! | `install` | the calls by which a program confines itself |
//! | `actions` | what happens to calls that are not allowed |
//! | `vdso` | calls that natively are none |
//! | `shown` | what a program reads of all this in `/proc` |

mod actions;
mod allowed;
mod confined;
mod filter;
mod install;
pub mod ours;
mod program;
mod run;
mod shown;
#[cfg(test)]
mod tests;
mod vdso;
mod verdict;

pub use allowed::Allowed;
pub use confined::Confined;
pub use verdict::Arch;

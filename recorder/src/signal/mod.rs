//! Signals: which become events, and where.
//!
//! | file | concept |
//! |---|---|
//! | `deliver` | the delivery stop of a signal: **signal rules** |
//! | `wakeup_signal` | signals that bring a task to a deferred signal |
//! | `requeue` | blocked signals that become pending again |
//! | `forced` | signals that the kernel forces on tasks because of rr |
//! | `actions` | the actions of these signals |
//! | `traps` | instructions that trap and that the recorder carries out |
//! | `groups` | signals to the group that the recorder is in |
//! | `numbers` | bits, default actions, job control |

pub(crate) mod actions;
pub(crate) mod deliver;
pub(crate) mod forced;
pub(crate) mod groups;
pub(crate) mod numbers;
pub(crate) mod requeue;
pub(crate) mod traps;
pub(crate) mod wakeup_signal;

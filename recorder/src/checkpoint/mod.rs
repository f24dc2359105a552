//! Checkpoints while recording.
//!
//! | file | concept |
//! |---|---|
//! | `capture` | when one is due: **triggers**; the writer, the frozen forks |
//! | `take` | freezing everything |
//! | `forks` | the frozen forks |
//! | `snapshots` | snapshots that are read in place |
//! | `baseline` | the last checkpoint, to which changes are counted |
//! | `changes` | what has not changed since |
//! | `before_end` | a checkpoint before a signal kills |

pub(crate) mod baseline;
pub(crate) mod before_end;
pub mod capture;
pub(crate) mod changes;
pub(crate) mod forks;
pub(crate) mod snapshots;
pub(crate) mod take;

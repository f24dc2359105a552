//! The drive: which task runs, and for how long. Only the drive waits for tasks.
//!
//! | file | concept |
//! |---|---|
//! | `state` | who runs, who comes, who waits |
//! | `turns` | the loop that runs one task after the other |
//! | `run` | running one task to its next stop |
//! | `stops` | the kinds of stops, and who handles them |
//! | `reports` | reports of tasks |
//! | `members` | tasks that come and go for the scheduler |
//! | `scheduler` | the choice of the next task: **scheduling rules** |
//! | `chaos` | the dice of chaos mode |
//! | `contention` | tasks that starve for a lock |
//! | `locks` | waits for locks, and wakes |
//! | `check_maps` | the model of memory against the kernel's |
//! | `end` | the end of a recording |

pub mod chaos;
pub(crate) mod check_maps;
pub(crate) mod contention;
pub(crate) mod end;
pub(crate) mod locks;
pub(crate) mod members;
pub(crate) mod reports;
pub(crate) mod run;
pub mod scheduler;
pub(crate) mod state;
pub(crate) mod stops;
pub(crate) mod turns;

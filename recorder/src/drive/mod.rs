//! Which task runs, and for how long; the start and the end of the loop.

pub mod chaos;
pub(crate) mod check_maps;
pub(crate) mod contention;
pub(crate) mod end;
pub mod scheduler;
pub(crate) mod turns;

//! Checkpoints while recording.

pub(crate) mod baseline;
pub(crate) mod before_end;
pub mod capture;
pub(crate) mod forks;

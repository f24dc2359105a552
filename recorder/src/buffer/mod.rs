//! The system call buffer: the library in the tracees, and the code that is rewritten to reach it.

pub(crate) mod control;
pub(crate) mod edits;
pub(crate) mod guarded;
pub(crate) mod hardware_random;
pub(crate) mod known_sites;
pub(crate) mod rewritten;
pub(crate) mod ring;
pub(crate) mod sites;

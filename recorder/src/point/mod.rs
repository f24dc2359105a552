//! Execution points: the end of an interval without an event of the program.

pub(crate) mod discriminators;
pub(crate) mod interrupt;
pub(crate) mod patience;
pub(crate) mod place;
pub(crate) mod spin;

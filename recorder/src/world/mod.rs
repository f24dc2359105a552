//! What the recorder knows of the program: its tasks.

pub(crate) mod table;
pub(crate) mod task;

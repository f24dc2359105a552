//! What the user asked for and is told.

pub mod stats;

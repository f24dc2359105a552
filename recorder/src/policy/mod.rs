//! What the user asked for and is told.
//!
//! | file | concept |
//! |---|---|
//! | `options` | options |
//! | `stats` | the costs of a recording |
//! | `warnings` | what the user has been warned about |

pub(crate) mod options;
pub mod stats;
pub(crate) mod warnings;

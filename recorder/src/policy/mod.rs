//! The user's options, and what the recording reports to the user: warnings and statistics.
//!
//! | file | concept |
//! |---|---|
//! | `options` | options |
//! | `stats` | the costs of a recording |
//! | `warnings` | what the user has been warned about |

pub(crate) mod options;
pub mod stats;
pub(crate) mod warnings;

//! What the user asked for and is told.
//!
//! | file | concept |
//! |---|---|
//! | `options` | options and warnings |
//! | `stats` | the costs of a recording |

pub(crate) mod options;
pub mod stats;

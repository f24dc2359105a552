//! From `fork` to the program's first instruction, and signals to rr itself.
//!
//! | file | concept |
//! |---|---|
//! | `launch` | the child that becomes the program |
//! | `first_exec` | the first event |
//! | `inherited` | state that rr changes for itself and restores for the program |
//! | `outer_seccomp` | a seccomp filter that we run under |
//! | `terminate` | ending a recording from outside |

pub(crate) mod first_exec;
pub mod inherited;
pub mod launch;
pub mod outer_seccomp;
pub mod terminate;

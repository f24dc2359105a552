//! From `fork` to the program's first instruction.

pub mod inherited;
pub mod launch;
pub mod outer_seccomp;
pub mod terminate;

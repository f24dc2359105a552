//! A system call that the program makes.

/// A system call that the program makes.
#[derive(Clone, Copy)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

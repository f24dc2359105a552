//! Warnings: what the user is told, each thing once in a recording.

use std::collections::HashSet;

/// A thing that the user is warned about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Warning {
    /// The system call with this number is refused, or carried out in another way.
    Call(i64),
    /// The effect of this call with this request (of `ioctl`, say) is unknown.
    UnknownEffect { call: i64, request: u32 },
    /// This ptrace request is unknown.
    PtraceRequest(u32),
    /// A process that is not recorded takes part in a ptrace relation.
    PtraceOfStranger,
    /// A program does not get the privileges of its set-user-ID file.
    LostPrivileges,
    /// A 32-bit program is refused.
    Program32,
    /// A 32-bit system call is refused.
    Int80,
    /// Too many calls wait at the same time.
    ScratchIsFull,
}

/// The warnings that the user has had.
#[derive(Debug, Default)]
pub(crate) struct Warnings(HashSet<Warning>);

impl Warnings {
    /// Returns whether the user has not been warned of this before. From now on the user has.
    pub fn is_new(&mut self, warning: Warning) -> bool {
        self.0.insert(warning)
    }
}

//! Moves that gdb has no command for (`motion` makes them).

use crate::target::Restart;

/// A move that a resumption makes instead of running the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Move {
    /// `run`, `restart`, `seek`, `back`, `forward`.
    Restart(Restart),
    /// Nothing: it is where it should be (after `vRun`, which gdb follows with a `continue`).
    Stay,
}

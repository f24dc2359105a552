//! `Stoppoints`: where the debugger wants the debugged process to stop, or to be counted.

use crate::breakpoints::Breakpoints;
use crate::watch::Watches;

/// The breakpoints and watchpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stoppoints {
    pub breakpoints: Breakpoints,
    pub watches: Watches,
}

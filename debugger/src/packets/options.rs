//! `QPassSignals`, `QCatchSyscalls`: what stops the program besides breakpoints.

use super::numbers;
use crate::server::{Answer, Server};
use crate::signals;

impl Server<'_> {
    /// `QPassSignals:SIGNAL;…`: each list takes the place of the one before.
    pub(super) fn pass_signals(&mut self, rest: &[u8]) -> Answer {
        let Some(list) = numbers(rest, b';') else {
            return Answer::invalid();
        };
        self.options.pass_signals = list.into_iter().filter_map(signals::from_gdb).collect();
        self.options.pass_signals.dedup();
        Answer::ok()
    }

    /// `QCatchSyscalls:0`, `QCatchSyscalls:1`, `QCatchSyscalls:1;NUMBER;…`
    pub(super) fn catch_syscalls(&mut self, rest: &[u8]) -> Answer {
        let Some(list) = numbers(rest, b';') else {
            return Answer::invalid();
        };
        self.options.catch_syscalls = match list.split_first() {
            Some((0, [])) => None,
            Some((1, calls)) => Some(calls.iter().map(|call| call.cast_signed()).collect()),
            _ => return Answer::invalid(),
        };
        Answer::ok()
    }
}

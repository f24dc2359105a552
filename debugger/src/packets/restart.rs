//! `vRun`: the program runs anew, which is going somewhere in the recording.

use crate::hex;
use crate::server::{Answer, Move, Server};
use crate::target::{Restart, Stop};

/// The destination that the argument of `run` names: none, `cN` or `N`.
pub(super) fn destination(argument: Option<&str>) -> Option<Restart> {
    let argument = argument.map(str::trim).filter(|text| !text.is_empty());
    let Some(text) = argument else {
        return Some(Restart::Last);
    };
    match text.strip_prefix('c') {
        Some(number) => number.parse().ok().map(Restart::Checkpoint),
        None => text.parse().ok().map(Restart::Event),
    }
}

impl Server<'_> {
    /// `vRun;FILE;ARG;…`, all in hexadecimal: the file is the recorded one, whatever is said.
    pub(super) fn run_program(&mut self, rest: &[u8]) -> Answer {
        let words: Option<Vec<String>> = rest.split(|b| *b == b';').map(hex::decode_text).collect();
        let Some(words) = words else {
            return Answer::invalid();
        };
        let Some(to) = destination(words.get(1).map(String::as_str)) else {
            tracing::error!("run: neither an event nor a checkpoint (cN): {}", words[1]);
            return Answer::invalid();
        };
        match self.target.restart(to, self.connection) {
            Ok(stop) => {
                self.alive = true;
                self.ended = None;
                self.stepped = None;
                if let Stop::Exited { .. } = stop {
                    return self.stopped(stop);
                }
                // gdb takes a program to be at its first instruction now, and continues.
                self.next_move = Some(Move::Stay);
                let Some(tid) = stop.tid().or_else(|| self.current()) else {
                    return Answer::missing();
                };
                self.stopped(Stop::Stepped { tid })
            }
            Err(e) => {
                // The client shows no text of the server here.
                tracing::error!("{e}");
                Answer::said(&e)
            }
        }
    }
}

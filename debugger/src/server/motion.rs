//! Running the program, and moves that gdb has no command for.
//!
//! gdb looks at everything anew (threads, registers, libraries) when a program that it let run stops, and at nothing
//! after a command of ours. So a command that goes to another place (`run 1200`, `back`) only says what is to be
//! done, and is followed by `continue`: that is when the program moves, and it stops as any program does.

use rr_tracee::Tid;

use super::{Answer, Server};
use crate::target::{Action, Direction, Restart, Stop, TargetError};

/// What a resumption does instead of running the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Move {
    /// `run`, `restart`, `seek`.
    Restart(Restart),
    /// A command of the target that moves.
    Command {
        name: String,
        tid: Option<Tid>,
        args: Vec<String>,
    },
    /// Nothing: it is where it should be (after `vRun`, which gdb follows with a `continue`).
    Stay,
}

impl Server<'_> {
    /// Runs the program until it stops.
    pub(crate) fn resume(&mut self, action: Action, direction: Direction) -> Answer {
        if !self.alive {
            return Answer::missing();
        }
        if let Some(to) = self.next_move.take() {
            return self.do_move(to);
        }
        let stop = self
            .target
            .resume(action, direction, &self.options, self.connection);
        match stop {
            Ok(stop) => self.stopped(stop),
            Err(e) => self.failed(&e),
        }
    }

    fn do_move(&mut self, to: Move) -> Answer {
        match to {
            Move::Stay => self.arrived_reply(),
            Move::Restart(to) => match self.target.restart(to, self.connection) {
                Ok(stop) => self.arrived(stop),
                Err(e) => self.failed(&e),
            },
            Move::Command { name, tid, args } => match self.target.command(&name, tid, &args) {
                Ok(text) => {
                    if !text.is_empty() {
                        self.say(&text);
                    }
                    self.arrived_reply()
                }
                Err(e) => self.failed(&e),
            },
        }
    }

    /// The reply for a place that was asked for.
    pub(crate) fn arrived(&mut self, stop: Stop) -> Answer {
        match stop {
            Stop::Interrupted { .. } | Stop::Exiting { .. } | Stop::Exited { .. } => self.stopped(stop),
            _ => self.arrived_reply(),
        }
    }

    /// The user is told why, and the program stands where it can be looked at.
    fn failed(&mut self, error: &TargetError) -> Answer {
        self.say(&format!("rr: {error}"));
        self.arrived_reply()
    }
}

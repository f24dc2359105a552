//! Running the program, and moves that gdb has no command for.
//!
//! gdb looks at everything anew (threads, registers, libraries) when a program that it let run stops, and at nothing
//! after a command of rr's. So a command that goes to another place (`run 1200`, `back`) only says what is to be
//! done, and is followed by `continue`: that is when the program moves, and it stops as any program does.

use rr_tracee::Tid;

use super::next_move::Move;
use super::{Answer, Server};
use crate::target::{Action, Direction, Stop, TargetError};

impl Server<'_> {
    /// Runs the program until it stops. If the client lets only one thread run (`only`), the stop is that thread's:
    /// gdb relies on it while it steps over a breakpoint. Stops of others meanwhile are passed over.
    pub(crate) fn resume(&mut self, action: Action, direction: Direction, only: Option<Tid>) -> Answer {
        if !self.alive {
            return Answer::missing();
        }
        if let Some(to) = self.next_move.take() {
            return self.do_move(to);
        }
        loop {
            let stop = self
                .target
                .resume(action, direction, &self.options, self.connection);
            match (stop, only) {
                (Ok(stop), Some(only)) if stop.tid().is_some_and(|tid| tid != only) => {
                    if let Some(stop) = self.of_thread(stop, only) {
                        return self.stopped(stop);
                    }
                }
                (Ok(stop), _) => return self.stopped(stop),
                (Err(e), _) => return self.failed(&e),
            }
        }
    }

    /// A stop of another thread, for a client that lets only `only` run: None if it does not matter.
    fn of_thread(&self, stop: Stop, only: Tid) -> Option<Stop> {
        if !self.has_thread(only) {
            return Some(stop);
        }
        let tid = only;
        match stop {
            Stop::Interrupted { .. } => Some(Stop::Interrupted { tid }),
            Stop::Exiting { .. } => Some(Stop::Exiting { tid }),
            Stop::HistoryBegin { .. } => Some(Stop::HistoryBegin { tid }),
            Stop::HistoryEnd { .. } => Some(Stop::HistoryEnd { tid }),
            _ => None,
        }
    }

    fn do_move(&mut self, to: Move) -> Answer {
        match to {
            Move::Stay => self.arrived_reply(),
            Move::Restart(to) => match self.target.restart(to, self.connection) {
                Ok(stop) => self.arrived(stop),
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

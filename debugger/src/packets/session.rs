//! `D`, `k`, `vKill`: giving the program up. `?`: why it is stopped.

use rr_tracee::Tid;

use crate::hex;
use crate::server::{Answer, Ended, Server};
use crate::target::Stop;

impl Server<'_> {
    /// `?`
    pub(super) fn last_stop(&mut self) -> Answer {
        let Some(current) = self.current() else {
            return self.exit_reply(0);
        };
        let stop = match self.last_stop.clone() {
            Some(stop) if stop.tid().is_some_and(|tid| self.has_thread(tid)) => stop,
            _ => Stop::Stepped { tid: current },
        };
        self.stopped(stop)
    }

    /// Says if a pid in a packet is that of the program; no pid at all is.
    fn is_our_process(&self, pid: &[u8]) -> Option<bool> {
        if pid.is_empty() {
            return Some(true);
        }
        let pid = i32::try_from(hex::number(pid)?).ok()?;
        Some(Tid(pid) == self.target.process())
    }

    fn give_up(&mut self, how: Ended) {
        self.remove_points();
        self.alive = false;
        self.next_move = None;
        self.ended = Some(how);
    }

    /// `D` and `D;PID`: of a child that gdb was told of, and does not want, nothing needs to be done.
    pub(super) fn detach(&mut self, rest: &[u8]) -> Answer {
        match self.is_our_process(rest.strip_prefix(b";").unwrap_or(rest)) {
            Some(true) => {
                self.give_up(Ended::Detached);
                Answer::ok()
            }
            Some(false) => Answer::ok(),
            None => Answer::invalid(),
        }
    }

    /// `vKill;PID`
    pub(super) fn kill(&mut self, pid: &[u8]) -> Answer {
        match self.is_our_process(pid) {
            Some(true) => {
                self.give_up(Ended::Killed);
                Answer::ok()
            }
            Some(false) => Answer::ok(),
            None => Answer::invalid(),
        }
    }

    /// `k`, which has no answer.
    pub(super) fn kill_quietly(&mut self) -> Answer {
        self.give_up(Ended::Killed);
        Answer::Nothing
    }
}

//! `vCont`, `c`, `s`, `bc`, `bs`: running the program.
//!
//! The recording decides which threads run and which signals come. Of a client's request only one thing counts: that one
//! thread is to be stepped.

use rr_tracee::{Addr, AddrRange, Tid};

use crate::hex;
use crate::ids::ThreadId;
use crate::server::{Answer, Server};
use crate::target::{Action, Direction};

impl Server<'_> {
    /// The thread of `c` and `s` packets.
    fn stepped_thread(&self) -> Option<Tid> {
        let chosen = self.stepped.filter(|tid| self.has_thread(*tid));
        chosen.or_else(|| self.thread())
    }

    /// `c`, `C`
    pub(super) fn old_continue(&mut self) -> Answer {
        self.resume(Action::Continue, Direction::Forward, None)
    }

    /// `s`, `S`
    pub(super) fn old_step(&mut self) -> Answer {
        match self.stepped_thread() {
            Some(tid) => self.resume(Action::Step(tid), Direction::Forward, self.stepped),
            None => Answer::missing(),
        }
    }

    /// `bc`, `bs`
    pub(super) fn backward(&mut self, rest: &[u8]) -> Answer {
        match (rest, self.stepped_thread()) {
            (b"c", _) => self.resume(Action::Continue, Direction::Backward, None),
            (b"s", Some(tid)) => self.resume(Action::Step(tid), Direction::Backward, self.stepped),
            (b"s", None) => Answer::missing(),
            _ => Answer::unsupported(),
        }
    }

    /// `vCont;ACTION[:THREAD];…`
    pub(super) fn resume_threads(&mut self, rest: &[u8]) -> Answer {
        let mut chosen = None;
        let mut resumed = 0;
        let mut alone = None;
        for item in rest.split(|b| *b == b';') {
            let (action, thread) = match hex::split(item, b':') {
                Some((action, thread)) => match ThreadId::parse(thread).map(|id| self.resolve(id)) {
                    Some(Ok(tid)) => (action, tid),
                    // A process that we do not follow runs without us.
                    Some(Err(_)) => continue,
                    None => return Answer::invalid(),
                },
                None => (item, None),
            };
            match self.action(action, thread) {
                Ok(Some(action)) => {
                    resumed += 1;
                    alone = thread;
                    // The first step counts; all else runs as it did.
                    if !matches!(chosen, Some(Action::Step(_) | Action::StepRange(..))) {
                        chosen = Some(action);
                    }
                }
                Ok(None) => {}
                Err(answer) => return answer,
            }
        }
        match chosen {
            Some(action @ (Action::Step(_) | Action::StepRange(..))) => {
                self.resume(action, Direction::Forward, alone.filter(|_| resumed == 1))
            }
            Some(Action::Continue) => self.resume(Action::Continue, Direction::Forward, None),
            // Nothing but `t`, or threads that are gone: nothing runs.
            None => self.arrived_reply(),
        }
    }

    fn action(&self, text: &[u8], thread: Option<Tid>) -> Result<Option<Action>, Answer> {
        let thread = || thread.or_else(|| self.current()).ok_or_else(Answer::missing);
        let Some((kind, rest)) = text.split_first() else {
            return Err(Answer::invalid());
        };
        Ok(match kind {
            b'c' | b'C' => Some(Action::Continue),
            b's' | b'S' => Some(Action::Step(thread()?)),
            b't' => None,
            b'r' => {
                let (start, end) = hex::pair(rest, b',').ok_or_else(Answer::invalid)?;
                Some(Action::StepRange(
                    thread()?,
                    AddrRange::new(Addr(start), Addr(end)),
                ))
            }
            _ => return Err(Answer::invalid()),
        })
    }
}

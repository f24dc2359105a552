//! Steps of single instructions through a whole replay, for those who want to see each state of the program.

use rr_tracee::Tid;

use crate::drive::proceed;
use crate::error::Result;
use crate::halt::{Halt, Pace};
use crate::interrupt::Never;
use crate::session::ReplaySession;

/// The end of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// This task has executed one instruction. (A call that the library made counts as one, too.)
    Executed(Tid),
    /// No instruction is left before the next event, which [`ReplaySession::step`] applies.
    AtEvent,
}

/// Lets the next event's task execute one instruction.
pub fn step_instruction(session: &mut ReplaySession) -> Result<Step> {
    let tid = session.next_event()?.map(|event| event.tid);
    loop {
        match (proceed(session, Pace::Step, &mut Never)?, tid) {
            (Halt::Arrived, _) | (_, None) => return Ok(Step::AtEvent),
            (Halt::Stepped, Some(tid)) => return Ok(Step::Executed(tid)),
            // Nobody has set a stop, or asks for one.
            (Halt::Breakpoint(_) | Halt::Watchpoint(_) | Halt::Interrupted, _) => {}
        }
    }
}

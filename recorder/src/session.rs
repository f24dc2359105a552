//! `RecordSession`: one recording, as five owners.
//!
//! ```text
//! drive        which task runs: resumes, waits, and calls the handler of a stop    (drive/)
//!   └─ handlers of stops: call/, memory/, task/, signal/, ptrace/, seccomp/, point/, checkpoint/
//!        ├─ world        the model: what the recorder knows of the program         (world/)
//!        ├─ log          the events, and the trace                                 (log/)
//!        ├─ checkpoints  when one is due, the frozen forks, their writer           (checkpoint/)
//!        └─ policy       what the user asked for and is told                       (policy/)
//! ```
//!
//! A handler is a function that gets the owners that it needs: the world alone (`&mut World`), or the whole recording if it records an
//! event. It returns how the task goes on (`Next`, `world/next.rs`), and the drive carries that out: only the drive sets the
//! task's state, records the event of a call that is over, and waits. A handler that decides only some cases returns
//! `ControlFlow`: `Break` with the `Next`, or `Continue` with the task. Short waits in the middle of an event are the
//! exception: remote calls, single steps, the frame of a signal handler, the end of a task.

use rr_trace::event::EventNumber;
use rr_tracee::Tid;

use crate::checkpoint::capture::Capture;
use crate::drive::state::Drive;
use crate::log::event_log::EventLog;
use crate::policy::options::Policy;
use crate::world::model::World;

/// One recording.
pub struct RecordSession {
    pub(crate) world: World,
    pub(crate) log: EventLog,
    pub(crate) drive: Drive,
    pub(crate) policy: Policy,
    pub(crate) checkpoints: Capture,
    /// The program's first process.
    pub(crate) root: Tid,
    /// Its wait status, once it has ended.
    pub(crate) root_status: Option<i32>,
}

impl RecordSession {
    /// The number of the last event.
    pub fn last_event(&self) -> EventNumber {
        self.log.last_event()
    }

    /// Returns whether the time limit is reached.
    pub(crate) fn is_time_over(&self) -> bool {
        self.policy
            .options
            .time_limit
            .is_some_and(|limit| self.log.now() >= limit)
    }

    /// The program's first process.
    pub fn root(&self) -> Tid {
        self.root
    }
}

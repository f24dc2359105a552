//! The state of the drive: who runs, who comes, who waits.

use std::collections::HashMap;
use std::time::Duration;

use rr_tracee::Tid;
use rr_tracee::task::Report;
use rr_tracee::ticker::Ticker;

use crate::drive::contention::{Contention, Wake};
use crate::drive::scheduler::{Schedule, Scheduler};

/// The state of the drive.
pub(crate) struct Drive {
    pub scheduler: Scheduler,
    /// The task that executed user code last.
    pub current: Tid,
    /// The task that was resumed last: until `current` is, another one.
    pub last_run: Option<Tid>,
    /// Reports about tasks that the kernel attached before we know them.
    pub early: HashMap<Tid, Report>,
    /// True if the current task has called `sched_yield`: others go first.
    pub yields: bool,
    /// The ticker, while the recording goes on.
    pub ticker: Option<Ticker>,
    /// Number of short ticks since the last long one.
    pub short_ticks: u32,
    /// Chaos mode: the number of instructions after which the task that goes on next is preempted.
    pub preemption: Option<u64>,
    /// The tasks that wait for locks.
    pub contention: Contention,
    /// The wake of a lock that was just dropped, if a task waits for it in vain.
    pub handed_over: Option<Wake>,
    /// Time at which all reports of tasks were last handled, as a time of [`rr_tracee::tsc::now`].
    pub noted: Duration,
}

impl Drive {
    /// The drive of a recording whose first process is `root`.
    pub fn new(schedule: Schedule, root: Tid) -> Drive {
        Drive {
            scheduler: Scheduler::new(schedule),
            current: root,
            last_run: None,
            early: HashMap::new(),
            yields: false,
            ticker: None,
            short_ticks: 0,
            preemption: None,
            contention: Contention::default(),
            handed_over: None,
            noted: Duration::ZERO,
        }
    }
}

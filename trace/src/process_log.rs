//! The processes of a trace that is being written: for the table at its end, and for the beginning that it gets when its first events
//! are deleted.
//!
//! Keeps: the table says what a reader of the trace would find out from its events, from wherever it begins now.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::{Event, EventNumber};
use crate::lineage::{Change, Lineage, Living};
use crate::process_table::{Recorded, TABLE_MAX};

/// The processes so far.
#[derive(Debug)]
pub(crate) struct ProcessLog {
    state: Mutex<LogState>,
}

#[derive(Debug)]
struct LogState {
    /// The processes since the beginning.
    lineage: Lineage,
    /// Bytes of a table of them, about.
    table_bytes: usize,
    /// The event of the checkpoint at which the trace begins, if its first events were deleted.
    begins_at: Option<EventNumber>,
    deletions: Option<Deletions>,
}

/// Of a trace whose beginning is to be deleted: the processes at the beginning, and what changed since, one by one.
#[derive(Debug, Default)]
struct Deletions {
    before: Lineage,
    later: VecDeque<Change>,
}

impl ProcessLog {
    /// A log of a trace whose beginning is to be deleted, or is not.
    pub(crate) fn new(deletes: bool) -> ProcessLog {
        ProcessLog {
            state: Mutex::new(LogState {
                lineage: Lineage::default(),
                table_bytes: 0,
                begins_at: None,
                deletions: deletes.then(Deletions::default),
            }),
        }
    }

    /// Notes the next event.
    pub(crate) fn note(&self, event: &Event) {
        let mut state = self.state();
        // Without deletions, only the table needs it.
        if state.deletions.is_none() && state.table_bytes > TABLE_MAX {
            state.lineage = Lineage::default();
            return;
        }
        for change in state.lineage.follow_event(event).into_iter().flatten() {
            state.table_bytes += change.table_bytes();
            if let Some(deletions) = &mut state.deletions {
                deletions.later.push_back(change);
            }
        }
    }

    /// Lets the trace begin at an event. Returns the processes after it. Events must ascend from call to call.
    pub(crate) fn begin_at(&self, event: EventNumber) -> Vec<Living> {
        let mut state = self.state();
        let Some(deletions) = &mut state.deletions else {
            return Vec::new();
        };
        while let Some(change) = deletions.later.pop_front_if(|change| change.at <= event) {
            deletions.before.follow(&change);
            deletions.before.forget_the_past();
        }
        let living = deletions.before.living();
        let mut lineage = Lineage::from_living(event, living.clone());
        let mut table_bytes = lineage.table_bytes();
        for change in &deletions.later {
            lineage.follow(change);
            table_bytes += change.table_bytes();
        }
        state.lineage = lineage;
        state.table_bytes = table_bytes;
        state.begins_at = Some(event);
        living
    }

    /// The processes of the whole trace, unless the table of them would be large.
    pub(crate) fn take(&self) -> Option<Recorded> {
        let mut state = self.state();
        if state.table_bytes > TABLE_MAX {
            return None;
        }
        Some(Recorded {
            begins_at: state.begins_at,
            processes: std::mem::take(&mut state.lineage).into_all(),
        })
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

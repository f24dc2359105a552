//! The system calls that have been entered and have not returned.

use std::collections::HashMap;

use anyhow::Result;
use rr_trace::TraceReader;
use rr_trace::event::{Event, EventKind, EventNumber};
use rr_tracee::{Registers, Tid};

/// The last registers at the entry, by task.
#[derive(Default)]
pub struct Pending(HashMap<Tid, Registers>);

impl Pending {
    /// Finds the calls that are under way just before event `from`.
    pub fn before(reader: &TraceReader, from: EventNumber) -> Result<Pending> {
        let mut pending = Pending::default();
        let first = reader.first_event().max(EventNumber(1));
        if from > first {
            for event in reader.events_from(first)? {
                let event = event?;
                if event.number >= from {
                    break;
                }
                pending.call_of(&event);
            }
        }
        Ok(pending)
    }

    /// The call that the next event belongs to.
    pub fn call_of(&mut self, event: &Event) -> Option<Registers> {
        match &event.kind {
            EventKind::SyscallEnter { entry } => {
                self.0.insert(event.tid, *entry);
                Some(*entry)
            }
            EventKind::Syscall { entry, .. } => entry.or_else(|| self.0.remove(&event.tid)),
            EventKind::Restart { .. } | EventKind::Exit { .. } => {
                self.0.remove(&event.tid);
                None
            }
            _ => None,
        }
    }
}

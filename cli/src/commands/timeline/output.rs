//! The output of the program, which is in its memory and not in its events: the recording is replayed for it.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use rr_replayer::ReplaySession;
use rr_trace::TraceReader;
use rr_tracee::cpus::{Cpus, bind_thread, set_of};

use super::collect::Timeline;
use crate::claimed;

/// The most bytes of one call that are shown.
const MOST: usize = 200;

/// Adds outputs to a timeline.
pub fn add(timeline: &mut Timeline, reader: &Arc<TraceReader>) -> Result<()> {
    let steps = timeline.steps.iter().enumerate();
    let by_number: HashMap<u64, usize> = steps.map(|(n, step)| (step.number.0, n)).collect();
    let claim = claimed::for_replay(&Cpus::survey(), reader);
    let cpu = claim.cpu();
    let mut session = ReplaySession::start(Arc::clone(reader), Some(cpu))?;
    bind_thread(&set_of(&[cpu]));
    while let Some(replayed) = session.step()? {
        let Some((_, bytes)) = replayed.output else {
            continue;
        };
        if let Some(step) = by_number.get(&replayed.event.number.0) {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]).into_owned();
            timeline.outputs.push((*step, shown));
        }
    }
    Ok(())
}

//! The processor time of an interval.

use rr_tracee::Tid;
use rr_tracee::task::processor_time;

use crate::error::Result;
use crate::session::RecordSession;

/// Approximate processor time of the task since its last event, in microseconds. For the time
/// before the first tick, which was not measured, the same share is assumed.
pub(crate) fn ran_us(session: &RecordSession, tid: Tid) -> Result<u32> {
    let task = session.world.task(tid)?;
    let Some((then, ran)) = task.interval.ticks.clocked else {
        return Ok(0);
    };
    let ran = processor_time(task.tgid)?.saturating_sub(ran);
    let all = session.log.since_last_event();
    let seen = session.log.now().saturating_sub(then);
    let part = if seen.is_zero() {
        1.0
    } else {
        all.div_duration_f64(seen).min(2.0)
    };
    Ok(ran.mul_f64(part).as_micros().try_into().unwrap_or(u32::MAX))
}

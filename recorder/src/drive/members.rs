//! Tasks that come and go for the scheduler, and those that become able to run.

use rr_tracee::procfs;

use crate::point::patience::Patience;
use crate::session::RecordSession;
use crate::world::task::Task;

/// Tells the scheduler which tasks can run.
pub(crate) fn tell_scheduler(session: &mut RecordSession) {
    for (tid, is_ready) in session.world.tasks.take_news() {
        session.drive.scheduler.set_ready(tid, is_ready);
    }
}

/// Adds a new task.
pub(crate) fn add_task(session: &mut RecordSession, mut task: Task) {
    let (tid, is_ready) = (task.tid, task.is_runnable());
    task.interval.ticks.patience = Patience::new(session.policy.options.schedule.chaos.is_some());
    session.world.tasks.insert(tid, task);
    // News of a task that had this tid before must not count for this one.
    tell_scheduler(session);
    session.drive.scheduler.add(tid, procfs::nice(tid));
    session.drive.scheduler.set_ready(tid, is_ready);
}

/// After a call that changes nice values: only the kernel knows whose.
pub(crate) fn refresh_priorities(session: &mut RecordSession) {
    for tid in session.world.tasks.keys() {
        session.drive.scheduler.set_nice(*tid, procfs::nice(*tid));
    }
}

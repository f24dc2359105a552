//! The check of `rr record --check-cached-mmaps`: compares the model of an address space with
//! `/proc/PID/maps`.

use rr_tracee::{AddrRange, AddressSpace, Backing, Prot, Tid, procfs};

use crate::error::{Error, Result};
use crate::session::RecordSession;

/// The properties of a stretch of memory that both the kernel and the model know.
type Stretch = (AddrRange, Prot, bool);

/// Joins neighbours of the same kind: kernel and model may split them differently.
fn joined(stretches: impl Iterator<Item = Stretch>) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for (range, prot, shared) in stretches {
        match all.last_mut() {
            Some((last, p, s)) if last.end == range.start && *p == prot && *s == shared => {
                last.end = range.end
            }
            _ => all.push((range, prot, shared)),
        }
    }
    all
}

fn of_model(model: &AddressSpace) -> Vec<Stretch> {
    joined(
        model
            .iter()
            // Not all of rr's area is mapped.
            .filter(|m| m.backing != Backing::Rr)
            .map(|m| (m.range, m.prot, matches!(m.backing, Backing::Shared { .. }))),
    )
}

fn of_kernel(tid: Tid) -> Result<Vec<Stretch>> {
    let lines = procfs::program_maps(tid)?.into_iter();
    Ok(joined(lines.map(|l| (l.range, l.prot, l.shared))))
}

/// Fails if the model of the task's address space differs from the kernel's mappings.
pub(crate) fn check_model(session: &RecordSession, tid: Tid) -> Result<()> {
    let Some(task) = session.world.tasks.get(&tid).filter(|t| !t.life.exited) else {
        return Ok(());
    };
    let Some(space) = session.world.spaces.get(&task.space) else {
        return Ok(());
    };
    // The kernel follows the model before a task of the space goes on.
    if !space.userfaults.due.is_empty() {
        return Ok(());
    }
    let (model, kernel) = (of_model(&space.model), of_kernel(tid)?);
    if model == kernel {
        return Ok(());
    }
    let only = |a: &[Stretch], b: &[Stretch]| -> Vec<String> {
        let show = |(range, prot, shared): &Stretch| {
            let right = |p: Prot, c| if prot.has(p) { c } else { '-' };
            let sharing = if *shared { 's' } else { 'p' };
            format!(
                "{range} {}{}{}{sharing}",
                right(Prot::READ, 'r'),
                right(Prot::WRITE, 'w'),
                right(Prot::EXEC, 'x')
            )
        };
        a.iter().filter(|s| !b.contains(s)).take(4).map(show).collect()
    };
    let what = format!(
        "at event {} the model of its memory is not /proc/{tid}/maps: the model has {:?}, the kernel {:?}",
        session.log.last_event(),
        only(&model, &kernel),
        only(&kernel, &model)
    );
    Err(Error::Unexpected { tid, what })
}

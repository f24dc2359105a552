//! The tasks that a program names by a number, or by a directory of its `/proc`. A number is that of the program's pid
//! namespace.

use rr_tracee::pid_namespace::{Vpid, is_ours, number_for};
use rr_tracee::{Tid, procfs};

use crate::world::model::World;

/// The task that has this number for `by`. It may be a task that is not recorded, or none at all: the number of a program
/// in our own namespace says nothing else.
pub(crate) fn named_task(world: &World, by: Tid, number: Vpid) -> Option<Tid> {
    // Tasks of other namespaces have no number, and 0 does not name them.
    if number.0 <= 0 {
        return None;
    }
    if is_ours(by) {
        return Some(Tid(number.0));
    }
    let mut tasks = world.tasks.keys().copied();
    tasks.find(|tid| number_for(by, *tid) == number)
}

/// The process whose file `reader` has opened as `/proc/NUMBER/...`. The program's `/proc` may belong to its own pid
/// namespace.
pub(crate) fn process_in_proc(world: &World, reader: Tid, number: i32) -> Option<Tid> {
    if is_ours(reader) {
        return Some(Tid(number));
    }
    let status = format!("/proc/{reader}/root/proc/{number}/status");
    task_of_status(world, reader, &std::fs::read_to_string(status).ok()?)
}

/// Finds the recorded task whose `/proc/PID/status` the task `reader` reads, by the numbers in the text. (If
/// several tasks have the same numbers in different namespaces, a task in the reader's namespace is
/// preferred.)
pub(crate) fn task_of_status(world: &World, reader: Tid, text: &str) -> Option<Tid> {
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let shown = procfs::numbers_in(line?);
    let first = Tid(*shown.first()?);
    if world.tasks.contains_key(&first) && procfs::numbers(first) == shown {
        return Some(first);
    }
    let is_meant = |tid: &Tid| procfs::numbers(*tid).ends_with(&shown);
    let meant: Vec<Tid> = world.tasks.keys().copied().filter(is_meant).collect();
    let namespace = procfs::pid_namespace(reader);
    let own = meant.iter().find(|tid| procfs::pid_namespace(**tid) == namespace);
    own.or(meant.first()).copied()
}

//! Death at a chosen moment, for tests: a debug build of rr kills one of its tracees at the n-th
//! *moment* of its work.
//!
//! A moment is any contact of a recorder with a tracee: a report about the tracee, a request, an access
//! to its memory. A tracee can be killed from outside between any two moments. So a test that goes
//! through all moments has seen all deaths, while a test that kills at random times only hopes for
//! that.
//!
//! `RR_TEST_KILL_AT=N[,late][,parent]` in the environment: at moment N the tracee of that moment gets
//! `SIGKILL`. With `late`, rr then waits until the tracee has come to its last stop. With `parent`, rr
//! kills the tracee's parent instead, if the parent is traced, too.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;

use crate::ids::Tid;
use crate::kill::kill;

/// The moment of the kill, and its variant.
#[derive(Debug)]
struct Plan {
    moment: u64,
    late: bool,
    parent: bool,
}

/// Time that a killed tracee gets to come to its last stop.
const LATE: Duration = Duration::from_millis(3);

thread_local! {
    static MOMENTS: Cell<u64> = const { Cell::new(0) };
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let read = || {
        let text = std::env::var("RR_TEST_KILL_AT").ok()?;
        let (number, rest) = text.split_once(',').unwrap_or((&text, ""));
        Some(Plan {
            moment: number.parse().ok()?,
            late: rest.contains("late"),
            parent: rest.contains("parent"),
        })
    };
    PLAN.get_or_init(read).as_ref()
}

/// Counts a moment of this tracee, and kills it if this is the chosen one. Only the thread that drives
/// the tracees counts.
pub(crate) fn moment(tid: Tid) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(plan) = plan() else { return };
    // SAFETY: both calls take nothing and return plain numbers.
    if unsafe { libc::gettid() != libc::getpid() } {
        return;
    }
    let number = MOMENTS.get() + 1;
    MOMENTS.set(number);
    if number != plan.moment {
        return;
    }
    let victim = if plan.parent { parent(tid) } else { Some(tid) };
    eprintln!("rr: test: moment {number} of task {tid}, killed: {victim:?}");
    if let Some(victim) = victim {
        kill(victim);
        if plan.late {
            std::thread::sleep(LATE);
        }
    }
}

/// The parent of a task, if we trace the parent.
fn parent(tid: Tid) -> Option<Tid> {
    let value = |pid: Tid, key: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let value = status.lines().find_map(|line| line.strip_prefix(key))?;
        value.trim().parse().ok().map(Tid)
    };
    let parent = value(tid, "PPid:")?;
    (value(parent, "TracerPid:")?.0 == std::process::id() as i32).then_some(parent)
}

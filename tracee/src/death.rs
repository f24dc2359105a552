//! Death at a chosen moment, for tests: a debug build of rr kills a tracee of its own at the n-th *moment* of its work.
//!
//! A moment is whatever a recorder does with a tracee: a report that it gets about it, a request, a look at its memory.
//! Between any two of them the tracee can be killed from outside; so a test that goes through all moments has seen all
//! deaths, where one that kills at random times hopes for them.
//!
//! `RR_TEST_KILL_AT=N[,late][,parent]` in the environment: at moment N the tracee that it is about gets `SIGKILL`. `late`: then it is given
//! the time to come to its last stop. `parent`: its parent is killed instead, if that is traced, too.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;

use crate::ids::Tid;
use crate::kill::kill;

/// When to kill whom.
#[derive(Debug)]
struct Plan {
    moment: u64,
    late: bool,
    parent: bool,
}

/// How long a killed tracee is given to come to its last stop.
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

/// Something is done with a tracee: if its time has come, it dies. Only the thread that drives the tracees counts.
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

/// Its parent, if we trace that.
fn parent(tid: Tid) -> Option<Tid> {
    let value = |pid: Tid, key: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let value = status.lines().find_map(|line| line.strip_prefix(key))?;
        value.trim().parse().ok().map(Tid)
    };
    let parent = value(tid, "PPid:")?;
    (value(parent, "TracerPid:")?.0 == std::process::id() as i32).then_some(parent)
}

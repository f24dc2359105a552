//! Tests one program with all ways of recording and replaying.
//!
//! For every checkpoint interval: the recorded program ends as expected; a replay from the start shows
//! the same bytes on both streams; replays from checkpoint to checkpoint together show the same bytes,
//! none twice; `rr verify` finds nothing; `rr ps` knows the exit status.

use std::ffi::OsString;

use crate::full;
use crate::guest::{Ending, Guest};
use crate::rr::{Recording, Rr, TraceInfo};
use crate::run::Run;

/// The tests of a program.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Checkpoint intervals to record with; `None` is without checkpoints.
    pub intervals: Vec<Option<u64>>,
    /// Intervals to record with without the system call buffer (`-n`).
    pub traced: Vec<u64>,
    /// Maximum number of checkpoints of each trace to replay from, spread evenly.
    pub replays: usize,
    /// The expected ending.
    pub ending: Ending,
    /// More options for `rr record`.
    pub options: Vec<String>,
    /// Maximum number of checkpoints of a trace for which the recorder waits, so that none is skipped.
    /// Each costs some tens of milliseconds to write and to verify.
    pub waits: u64,
    /// Number of the program's events, once known.
    pub events: u64,
}

impl Plan {
    /// The plan for guests: no checkpoints, and every class of intervals.
    pub fn guest(ending: Ending) -> Plan {
        Plan {
            intervals: if full() {
                vec![None, Some(1), Some(2), Some(7), Some(100)]
            } else {
                vec![None, Some(1), Some(7)]
            },
            traced: if full() { vec![1, 7, 100] } else { vec![7] },
            replays: if full() { 60 } else { 4 },
            ending,
            options: Vec::new(),
            waits: if full() { 3000 } else { 50 },
            events: u64::MAX,
        }
    }

    /// The plan for real programs: the given intervals.
    pub fn program(intervals: &[u64]) -> Plan {
        Plan {
            intervals: intervals.iter().copied().map(Some).collect(),
            traced: Vec::new(),
            replays: if full() { usize::MAX } else { 4 },
            ending: Ending::Exit(0),
            options: Vec::new(),
            waits: 0,
            events: u64::MAX,
        }
    }
}

/// Tests a guest with the whole matrix.
#[track_caller]
pub fn matrix(name: &str) {
    let guest = Guest::build(name);
    assert!(!guest.special, "{name} needs a test of its own");
    let mut plan = Plan::guest(guest.ending);
    if guest.heavy && !full() {
        plan.intervals.retain(|interval| *interval != Some(1));
    }
    check_guest(&Rr::new(), &guest, &plan);
}

/// Recordings with more checkpoints than this are made only in the full run.
const MANY_CHECKPOINTS: u64 = 1500;

/// Tests a guest by a plan with a given `rr`: natively first, then recorded.
#[track_caller]
pub fn check_guest(rr: &Rr, guest: &Guest, plan: &Plan) {
    let path = rr.reachable(&guest.path);
    let program: Vec<OsString> = std::iter::once(path.into_os_string())
        .chain(guest.args.iter().map(OsString::from))
        .collect();
    rr.native(&program, &rr.new_dir())
        .expect_status(guest.ending.shell_status());
    let mut plan = plan.clone();
    // With the system call buffer, and without.
    let buffered = plan.intervals.iter().map(|interval| (*interval, false));
    let traced = plan.traced.iter().map(|interval| (Some(*interval), true));
    for (interval, no_buffer) in buffered.chain(traced).collect::<Vec<_>>() {
        // Thousands of checkpoints of one guest show no more than shorter runs.
        let checkpoints = interval.map_or(0, |n| plan.events / n);
        if !full() && plan.events != u64::MAX && checkpoints > MANY_CHECKPOINTS {
            continue;
        }
        let mut options = record_options(&plan, interval);
        if no_buffer {
            options.push("-n".to_owned());
        }
        let recording = rr.record(&as_strs(&options), &program);
        plan.events = check_recording(&recording, &plan, interval).events;
        recording.remove();
    }
}

/// Options of `rr record` for recordings without checkpoints, however long they take.
pub const NO_CHECKPOINTS: [&str; 2] = ["--checkpoint-interval", "none"];

/// The options of `rr record` for one interval.
pub fn record_options(plan: &Plan, interval: Option<u64>) -> Vec<String> {
    let mut options = plan.options.clone();
    if let Some(n) = interval {
        options.extend(["--checkpoint-interval".to_owned(), format!("{n}e")]);
        // If the writer could not keep up: no checkpoint is skipped, so that every kind of event gets
        // one.
        if waits_for_writer(plan, n) {
            options.push("--checkpoint-wait".to_owned());
        }
    } else {
        // Without checkpoints there is time to compare the recorder's model of memory with the kernel's
        // at every event.
        options.extend(NO_CHECKPOINTS.map(str::to_owned));
        options.push("--check-cached-mmaps".to_owned());
    }
    options
}

/// Returns whether the recorder waits for the writer of checkpoints at this interval.
fn waits_for_writer(plan: &Plan, interval: u64) -> bool {
    plan.events / interval <= plan.waits
}

/// Strings as the slices that commands take.
pub fn as_strs(strings: &[String]) -> Vec<&str> {
    strings.iter().map(String::as_str).collect()
}

/// Checks one recording: its end, its replays, its checkpoints.
#[track_caller]
pub fn check_recording(recording: &Recording<'_>, plan: &Plan, interval: Option<u64>) -> TraceInfo {
    // The recording itself.
    let run = &recording.run;
    assert_eq!(
        run.shell_status(),
        plan.ending.shell_status(),
        "recorded with interval {interval:?}, the program ended differently\n{}",
        run.describe()
    );
    let info = recording.info();
    assert!(
        info.complete,
        "a recording that ended is not complete\n{}",
        run.describe()
    );
    assert!(info.events > 0, "no events");
    check_ps(recording, plan.ending);

    // Replay from the start.
    let whole = recording.replay(&[]).expect_success();
    same("replay: standard output", &whole.stdout, &run.stdout);
    same(
        "replay: standard error",
        &whole.program_stderr(),
        &run.program_stderr(),
    );

    // The list of checkpoints.
    match interval {
        None => assert!(info.checkpoints.is_empty(), "checkpoints that nobody asked for"),
        // Where nobody waits for the writer, a host that gives its threads no processor for a second can cost all
        // checkpoints of a short recording. Then the recorder says so.
        Some(n) => assert!(
            !info.checkpoints.is_empty()
                || info.events < 4 * n
                || (!waits_for_writer(plan, n) && run.err().contains("checkpoints were skipped")),
            "no checkpoint in {} events at interval {n}\n{}",
            info.events,
            run.describe()
        ),
    }
    let events: Vec<u64> = info
        .checkpoints
        .iter()
        .map(|checkpoint| checkpoint.event)
        .collect();
    assert!(
        events.is_sorted_by(|a, b| a < b),
        "checkpoints are not in order: {events:?}"
    );
    assert!(
        events.iter().all(|&event| event >= 1 && event <= info.events),
        "beyond the end: {events:?}"
    );
    for checkpoint in &info.checkpoints {
        assert!(
            checkpoint.tasks >= 1 && checkpoint.bytes > 0,
            "an empty checkpoint: {checkpoint:?}"
        );
        assert!(
            checkpoint.pages_stored + checkpoint.pages_referenced <= checkpoint.pages_scanned,
            "more pages kept than looked at: {checkpoint:?}"
        );
    }
    // Replays from some of the checkpoints.
    if !events.is_empty() {
        check_stretches(recording, &spread(&events, plan.replays));
    }
    recording.verify();
    info
}

/// Replays from the start to the first of these checkpoints, from each to the next, and from the last to the end. Together
/// they show everything, and no byte twice. From the first of them also to the end.
#[track_caller]
fn check_stretches(recording: &Recording<'_>, checkpoints: &[u64]) {
    let numbers: Vec<String> = checkpoints.iter().map(u64::to_string).collect();
    let begins = std::iter::once(None).chain(numbers.iter().map(Some));
    let ends = numbers.iter().map(Some).chain([None]);
    let replay = |begin: Option<&String>, end: Option<&String>| {
        let mut options = begin.map_or(vec!["--from-start"], |event| vec!["-g", event]);
        options.extend(end.into_iter().flat_map(|event| ["--until", event]));
        recording.replay(&options).expect_success()
    };
    let stretches: Vec<Run> = begins.zip(ends).map(|(begin, end)| replay(begin, end)).collect();
    let joined = |stretches: &[Run]| {
        let stdout: Vec<u8> = stretches.iter().flat_map(|run| run.stdout.clone()).collect();
        let stderr: Vec<u8> = stretches.iter().flat_map(Run::program_stderr).collect();
        (stdout, stderr)
    };
    let (stdout, stderr) = joined(&stretches);
    let what = format!("replays between the start, {checkpoints:?} and the end");
    same(
        &format!("{what}: standard output"),
        &stdout,
        &recording.run.stdout,
    );
    same(
        &format!("{what}: standard error"),
        &stderr,
        &recording.run.program_stderr(),
    );
    if let Some(first) = numbers.first() {
        let tail = replay(Some(first), None);
        let (stdout, stderr) = joined(&stretches[1..]);
        let what = format!("replay from checkpoint {first} to the end");
        same(&format!("{what}: standard output"), &tail.stdout, &stdout);
        same(
            &format!("{what}: standard error"),
            &tail.program_stderr(),
            &stderr,
        );
    }
}

/// The first process's exit status in `rr ps` (tab-separated: PID, PPID, EXIT, CMD).
#[track_caller]
fn check_ps(recording: &Recording<'_>, ending: Ending) {
    let ps = recording.rr(&["ps"]).expect_success();
    let text = ps.out();
    let first = text.lines().nth(1).unwrap_or_default();
    let exit = first.split('\t').nth(2).unwrap_or_default();
    assert_eq!(
        exit,
        ending.ps_status(),
        "rr ps: the first process's exit\n{text}"
    );
}

/// At most `count` of `all`, evenly spread, including the first and the last.
pub fn spread(all: &[u64], count: usize) -> Vec<u64> {
    if all.len() <= count {
        return all.to_vec();
    }
    if count < 2 {
        return all.last().copied().into_iter().take(count).collect();
    }
    (0..count)
        .map(|i| all[i * (all.len() - 1) / (count - 1)])
        .collect()
}

/// Compares outputs, with a message that shows the first difference.
#[track_caller]
pub fn same(what: &str, got: &[u8], expected: &[u8]) {
    if got == expected {
        return;
    }
    let at = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        let end = bytes.len().min(at + 200);
        String::from_utf8_lossy(&bytes[at.saturating_sub(60).min(end)..end]).into_owned()
    };
    panic!(
        "{what}: differs at byte {at} ({} bytes, expected {})\n got: {:?}\nwant: {:?}",
        got.len(),
        expected.len(),
        around(got),
        around(expected)
    );
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn spread_keeps_first_and_last() {
        let all: Vec<u64> = (1..=100).collect();
        assert_eq!(spread(&all, 1000), all);
        assert_eq!(spread(&all, 2), [1, 100]);
        assert_eq!(spread(&all, 4), [1, 34, 67, 100]);
        assert_eq!(spread(&all, 1), [100]);
        assert!(spread(&[], 3).is_empty());
    }
}

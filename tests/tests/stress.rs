//! Programs that do everything at random, with checkpoints at short intervals, each of which is
//! verified, and `kill -9` of the recorder, of the program's processes and of frozen forks at any
//! moment. Nothing diverges, and nothing is left behind.
//!
//! `RR_STRESS_SECONDS` is the duration, `RR_STRESS_SEED` the first seed. A failure names the seed of
//! its round.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rr_tests::programs::Random;
use rr_tests::rr::{Recording, words};
use rr_tests::run::{Started, no_process_left_in};
use rr_tests::{Guest, Rr, full};

/// The process that is killed with `SIGKILL` while it is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Nobody,
    Recorder,
    Program,
    FrozenForks,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn everything_at_random() {
    let seconds = number("RR_STRESS_SECONDS").unwrap_or(if full() { 1200 } else { 15 });
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let first = number("RR_STRESS_SEED").unwrap_or(now % 1_000_000_000);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (rr, keeping) = (Rr::new(), Rr::new().with_kept_forks());
    let (mut rounds, mut checkpoints) = (0, 0);
    while rounds == 0 || Instant::now() < end {
        let seed = first + rounds;
        checkpoints += round(if seed.is_multiple_of(2) { &keeping } else { &rr }, seed);
        rounds += 1;
    }
    eprintln!(
        "seeds {first} to {}: {checkpoints} checkpoints",
        first + rounds - 1
    );
}

/// Records and verifies one run. Returns the number of its checkpoints.
fn round(rr: &Rr, seed: u64) -> usize {
    let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut one_of = |all: &[&'static str]| all[random.below(all.len() as u64) as usize];
    let interval = one_of(&["1e", "2e", "7e", "7e", "20e", "50e", "1", "9", "50", "5ms"]);
    let steps = match interval {
        "1e" | "2e" | "1" => "100",
        _ => "400",
    };
    let mut options = vec!["--checkpoint-interval", interval];
    options.extend(Some("--checkpoint-wait").filter(|_| one_of(&["", "", "wait"]) == "wait"));
    options.extend(Some("-n").filter(|_| one_of(&["", "", "no buffer"]) == "no buffer"));
    options.extend(Some("--chaos").filter(|_| one_of(&["", "", "", "chaos"]) == "chaos"));
    let victim = match one_of(&["", "", "", "recorder", "program", "forks"]) {
        "recorder" => Victim::Recorder,
        "program" => Victim::Program,
        "forks" => Victim::FrozenForks,
        _ => Victim::Nobody,
    };
    let what = format!("seed {seed}, {options:?}, killed: {victim:?}");

    let guest = Guest::build("stress").path;
    let program = words([guest.as_os_str(), seed.to_string().as_ref(), steps.as_ref()]);
    let dir = rr.new_dir();
    let (mut started, trace) = rr.start_recording(&options, &program, &dir);
    attack(&mut started, victim, &mut random);
    let run = started.finish(rr.limit);
    no_process_left_in(&dir);
    assert!(!run.err().contains("panicked"), "{what}\n{}", run.describe());
    let status = run.shell_status();
    if status == 69 && victim == Victim::Program && run.err().contains("ended before it began") {
        return 0;
    }
    assert!(
        status == 0 || (status == 137 && victim != Victim::Nobody && victim != Victim::FrozenForks),
        "{what}\n{}",
        run.describe()
    );
    let recording = rr.recording_from(trace, run);
    let count = check(&recording, status == 0, &what);
    recording.remove();
    let _ = std::fs::remove_dir_all(dir);
    count
}

/// Kills the victims at random moments.
fn attack(started: &mut Started, victim: Victim, random: &mut Random) {
    if victim == Victim::Nobody {
        return;
    }
    let recorder = started.pid().as_raw();
    while !started.ended() {
        std::thread::sleep(Duration::from_micros(200 + random.below(30_000)));
        let below = descendants(recorder);
        assert!(
            std::fs::read_dir(format!("/proc/{recorder}/fd")).map_or(0, Iterator::count) < 600,
            "the recorder's descriptors get more and more"
        );
        let prey: Vec<i32> = match victim {
            Victim::Recorder if random.below(10) == 0 => vec![recorder],
            // Kill the first process only sometimes, because that ends everything.
            Victim::Program => below
                .iter()
                .copied()
                .filter(|p| !is_frozen(*p))
                .skip(usize::from(random.below(8) > 0))
                .collect(),
            Victim::FrozenForks => below.iter().copied().filter(|p| is_frozen(*p)).collect(),
            _ => Vec::new(),
        };
        if !prey.is_empty() {
            // The process may have ended.
            let _ = kill(
                Pid::from_raw(prey[random.below(prey.len() as u64) as usize]),
                Signal::SIGKILL,
            );
        }
    }
}

/// The descendants of a process, older ones first.
fn descendants(of: i32) -> Vec<i32> {
    let mut found = vec![of];
    for i in 0.. {
        let Some(pid) = found.get(i) else { break };
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        let children: Vec<i32> = threads
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
            .flat_map(|children| {
                children
                    .split_whitespace()
                    .filter_map(|c| c.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        found.extend(children);
    }
    found.remove(0);
    found
}

/// Returns whether a process is a frozen fork: these have no descriptors.
fn is_frozen(pid: i32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut fds| fds.next().is_none())
}

/// Checks that the recording replays and verifies, to its end or as far as it was written, and that
/// nothing unfinished is in the trace.
#[track_caller]
fn check(recording: &Recording<'_>, complete: bool, what: &str) -> usize {
    let info = recording.rr(&["traceinfo"]);
    if !complete && !info.status.success() {
        // The recorder was killed before the trace existed.
        return 0;
    }
    let info = recording.info();
    let verify = recording.rr(&["verify"]);
    assert_eq!(verify.shell_status(), 0, "{what}\n{}", verify.describe());
    if complete {
        assert!(info.complete, "{what}");
        let whole = recording.replay(&[]);
        assert_eq!(whole.shell_status(), 0, "{what}\n{}", whole.describe());
        assert_eq!(whole.stdout, recording.run.stdout, "{what}");
        assert!(
            unfinished(&recording.dir.join("checkpoints")).is_empty(),
            "{what}"
        );
    }
    if let Some(last) = info.checkpoints.last() {
        let from = recording.replay(&["-g", &last.event.to_string()]);
        assert_eq!(from.shell_status(), 0, "{what}\n{}", from.describe());
    }
    info.checkpoints.len()
}

/// Files of checkpoints that were never completed.
fn unfinished(dir: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| e.file_name())
        .filter(|name| name.to_string_lossy().contains("tmp"))
        .collect()
}

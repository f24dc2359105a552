//! `rr checkpoints`: listing, removal and budgets. The remaining checkpoints stay whole: replay from
//! each of them, and `rr verify`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rr_checkpoint::Checkpoint;
use rr_tests::damage::copy_of;
use rr_tests::programs::{Random, shell};
use rr_tests::run::{Started, start};
use rr_tests::{NO_CHECKPOINTS, Recording, Rr, Run, full, run};
use rr_trace::TraceReader;
use serde_json::Value;

/// Many short processes: some hundreds of events in a second.
const SCRIPT: &str = "for i in 1 2 3 4 5 6 7 8 9; do /bin/true; echo $i; done";

/// Makes a recording with the given options, without skipped checkpoints.
fn recorded<'a>(rr: &'a Rr, options: &[&str]) -> Recording<'a> {
    let recording = rr.record(&[options, &["-n", "--checkpoint-wait"]].concat(), &shell(SCRIPT));
    assert_eq!(recording.run.shell_status(), 0, "{}", recording.run.describe());
    recording
}

fn checkpoints(rr: &Rr, args: &[&str]) -> Run {
    run(rr.command(["checkpoints"]).args(args), rr.limit)
}

fn path(recording: &Recording<'_>) -> String {
    recording.dir.display().to_string()
}

fn events(recording: &Recording<'_>) -> Vec<u64> {
    recording.info().checkpoints.iter().map(|c| c.event).collect()
}

/// Waits until a recording that was started has a checkpoint.
fn await_first(dir: &Path) {
    let end = Instant::now() + Duration::from_secs(60);
    while !fs::read_dir(dir.join("checkpoints")).is_ok_and(|mut all| all.next().is_some()) {
        assert!(Instant::now() < end, "no checkpoint in {}", dir.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Stops the recorder, with SIGSTOP, at a moment at which the trace has at least so many published checkpoints.
fn stop_with(recorder: &Started, dir: &Path, count: usize) {
    let published = || {
        let entries = fs::read_dir(dir.join("checkpoints")).unwrap();
        let names = entries.map(|entry| entry.unwrap().path());
        names
            .filter(|path| path.extension().is_some_and(|kind| kind == "ckpt"))
            .count()
    };
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(
            Instant::now() < end,
            "never {count} checkpoints in {}",
            dir.display()
        );
        std::thread::sleep(Duration::from_millis(1));
        if published() < count {
            continue;
        }
        recorder.signal(Signal::SIGSTOP);
        // Threads on other processors run until they see the signal.
        std::thread::sleep(Duration::from_millis(20));
        if published() >= count {
            return;
        }
        recorder.signal(Signal::SIGCONT);
    }
}

/// Bytes of all checkpoint files on the disk.
fn on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir.join("checkpoints")).unwrap();
    entries
        .map(|e| e.unwrap().metadata().unwrap().blocks() * 512)
        .sum()
}

/// Replays from each checkpoint to the end, and verifies.
#[track_caller]
fn all_usable(recording: &Recording<'_>) {
    let all = recording.replay(&[]).expect_success();
    for event in events(recording) {
        let event = event.to_string();
        let replay = recording.replay(&["-v", "-g", &event]).expect_success();
        let started = format!("from the checkpoint at event {event} ");
        assert!(replay.err().contains(&started), "{}", replay.describe());
        assert!(all.out().ends_with(&replay.out()), "{}", replay.describe());
    }
    recording.verify();
}

#[test]
fn the_list_for_people_and_for_programs() {
    let rr = Rr::new();
    let recording = recorded(&rr, &["--checkpoint-interval", "150e"]);
    let dir = path(&recording);
    let made = events(&recording);
    assert!(made.len() >= 3, "{made:?}");
    let mut command = rr.command(["create-checkpoints", "-s", "75", "-e", "75"]);
    run(command.arg(&dir), rr.limit).expect_success();

    let table = checkpoints(&rr, &[&dir]).expect_success().out();
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0].join(" "),
        "event time tasks resident stored pause made by"
    );
    assert_eq!(lines.len(), made.len() + 3, "{table}");
    for line in &lines[1..lines.len() - 1] {
        let [event, seconds, "s", _tasks, _, unit, _, "KiB", pause, "ms", maker] = line[..] else {
            panic!("{line:?} in\n{table}");
        };
        assert!(["KiB", "MiB"].contains(&unit), "{table}");
        assert!(seconds.parse::<f64>().unwrap() < 60.0 && pause.parse::<f64>().is_ok());
        let expected = if event == "75" {
            "create-checkpoints"
        } else {
            "recorder"
        };
        assert_eq!(maker, expected, "{table}");
    }
    let last = lines.last().unwrap().join(" ");
    let count = format!("{} checkpoints;", made.len() + 1);
    assert!(
        last.starts_with(&count) && last.ends_with("on the disk"),
        "{table}"
    );

    let json: Value = serde_json::from_slice(&checkpoints(&rr, &["--json", &dir]).stdout).unwrap();
    let info: Value = serde_json::from_slice(&recording.rr(&["traceinfo"]).stdout).unwrap();
    assert_eq!(json["checkpoints"], info["checkpoints"]);
    assert_eq!(json["totals"], info["checkpointTotals"]);
    assert_eq!(json["totals"]["bytesOnDisk"], on_disk(&recording.dir));
    let first = &json["checkpoints"][0];
    assert_eq!(
        (&first["event"], &first["maker"]),
        (&75.into(), &"create-checkpoints".into())
    );
    assert!(first["resident"].as_u64().unwrap() > 4096, "{first}");

    // A checkpoint that cannot be used is listed, too.
    let file = recording.dir.join(format!("checkpoints/{:016}.ckpt", made[1]));
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(&file, bytes).unwrap();
    let table = checkpoints(&rr, &[&dir]).expect_success().out();
    assert!(
        table.contains("cannot be used: ") && table.contains("1 of which cannot be used"),
        "{table}"
    );

    let none = recorded(&rr, &NO_CHECKPOINTS);
    assert_eq!(
        checkpoints(&rr, &[&path(&none)]).expect_success().out(),
        "0 checkpoints; 0 B on the disk\n"
    );
}

#[test]
fn those_that_are_named_are_removed() {
    let rr = Rr::new();
    let recording = recorded(&rr, &["--checkpoint-interval", "60e"]);
    let dir = path(&recording);
    let before = events(&recording);
    assert!(before.len() >= 6, "{before:?}");
    let (bytes, names) = (
        on_disk(&recording.dir),
        before.iter().map(u64::to_string).collect::<Vec<_>>(),
    );

    // The first checkpoint has the data that all others refer to.
    let removed = checkpoints(&rr, &["rm", &dir, &names[0], &names[3], &names[0]]).expect_success();
    assert!(
        removed.out().starts_with("2 checkpoints removed, "),
        "{}",
        removed.describe()
    );
    let mut left = before.clone();
    left.retain(|event| ![before[0], before[3]].contains(event));
    assert_eq!(events(&recording), left);
    assert!(on_disk(&recording.dir) <= bytes);
    all_usable(&recording);

    for (args, why) in [
        (
            vec!["rm", &dir, &names[1], "77777"],
            "no checkpoint at event 77777",
        ),
        (vec!["rm", &dir, &names[0]], "none was removed"),
        (vec!["rm", &dir, "x"], "x is not an event"),
        (vec!["rm", &dir], "name the events"),
        (vec!["rm"], "EVENT"),
        (vec!["thin", &dir], "--budget"),
        (vec!["thin", &dir, "--keep", "0"], "--keep"),
        (vec!["thin", &dir, "--budget", "10X"], "not a size"),
        (vec!["/nowhere"], "no trace"),
    ] {
        let refused = checkpoints(&rr, &args).expect_status(1);
        assert!(refused.err().contains(why), "{args:?}: {}", refused.describe());
        assert_eq!(events(&recording), left, "{args:?}");
    }

    // Removed checkpoints can be made anew, and the others stay unchanged.
    let mut command = rr.command(["create-checkpoints", "-s", &names[3], "-e", &names[3]]);
    run(command.arg(&dir), rr.limit).expect_success();
    assert_eq!(events(&recording).len(), left.len() + 1);
    all_usable(&recording);

    let all: Vec<String> = events(&recording).iter().map(u64::to_string).collect();
    let args = ["rm", &dir].into_iter().chain(all.iter().map(String::as_str));
    checkpoints(&rr, &args.collect::<Vec<_>>()).expect_success();
    assert_eq!(
        fs::read_dir(recording.dir.join("checkpoints")).unwrap().count(),
        0
    );
    recording.verify();
}

#[test]
fn those_that_are_missed_least_are_removed() {
    let rr = Rr::new();
    let recording = recorded(&rr, &["--checkpoint-interval", "40e"]);
    let dir = path(&recording);
    let before = events(&recording);
    assert!(before.len() >= 10, "{before:?}");
    checkpoints(&rr, &["thin", "--keep", "6", &dir]).expect_success();
    let left = events(&recording);
    assert_eq!((left.len(), left[0]), (6, before[0]));
    assert_eq!(left[3..], before[before.len() - 3..]);
    all_usable(&recording);
    let half = on_disk(&recording.dir) / 2;
    checkpoints(&rr, &["thin", "--budget", &half.to_string(), &dir]);
    let fewer = events(&recording);
    assert!(fewer.len() < 6 && fewer.last() == before.last(), "{fewer:?}");

    let small = checkpoints(&rr, &["thin", "--budget", "1K", &dir]).expect_status(1);
    assert!(
        small.err().contains("the budget is too small"),
        "{}",
        small.describe()
    );
    assert_eq!(events(&recording), before[before.len() - 1..]);
    all_usable(&recording);
}

#[test]
fn where_the_beginning_is_gone_the_first_one_stays() {
    let rr = Rr::new();
    let recording = recorded(&rr, &["--checkpoint-interval", "100e"]);
    let all = events(&recording);
    // Each checkpoint begins a segment.
    for entry in fs::read_dir(recording.dir.join("segments")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let first: u64 = name.trim_end_matches(".seg").parse().unwrap();
        if first <= all[0] {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let dir = path(&recording);
    let refused = checkpoints(&rr, &["rm", &dir, &all[0].to_string()]).expect_status(1);
    assert!(
        refused.err().contains("lost its beginning"),
        "{}",
        refused.describe()
    );
    checkpoints(&rr, &["thin", "--keep", "2", &dir]).expect_success();
    assert_eq!(events(&recording), [all[0], all[all.len() - 1]]);
    recording.replay(&["-g", &all[0].to_string()]).expect_success();
}

#[test]
fn a_budget_bounds_what_a_recording_stores() {
    let rr = Rr::new();
    let whole = recorded(&rr, &["--checkpoint-interval", "10e"]);
    let bytes = on_disk(&whole.dir);
    let budget = bytes / 2;
    let option = budget.to_string();
    let bounded = recorded(
        &rr,
        &["--checkpoint-interval", "10e", "--checkpoint-budget", &option],
    );
    let (all, left) = (events(&whole), events(&bounded));
    assert!(
        left.len() >= 5 && left.len() < all.len(),
        "{} of {}",
        left.len(),
        all.len()
    );
    // Checkpoints at the end are as dense as before.
    let last = bounded.info().events;
    assert!(
        left[left.len() - 3..].iter().all(|event| last - event < 60),
        "{left:?} of {last}"
    );
    let disk = on_disk(&bounded.dir);
    assert!(disk <= budget, "{disk} bytes with a budget of {budget}");
    assert!(
        !bounded.run.err().contains("budget"),
        "{}",
        bounded.run.describe()
    );
    all_usable(&bounded);

    // The budget also holds for checkpoints that are added later.
    let bare = copy_of(&rr, &whole.dir);
    fs::remove_dir_all(bare.join("checkpoints")).unwrap();
    fs::create_dir(bare.join("checkpoints")).unwrap();
    let mut command = rr.command(["create-checkpoints", "-i", "10e", "--checkpoint-budget", &option]);
    let made = run(command.arg(&bare), rr.limit).expect_success();
    assert!(
        made.out().contains(" were removed to keep the budget"),
        "{}",
        made.describe()
    );
    assert!(on_disk(&bare) <= budget);
    all_usable(&rr.recording_from(bare, made));
}

/// Checkpoints need no option and cause no message.
#[test]
fn a_recording_has_checkpoints_unless_it_is_to_have_none() {
    let rr = Rr::new();
    // Seconds of buffered calls, which replay in less. (A computation without calls takes many times as long.)
    let program = shell("exec dd if=/dev/zero of=/dev/null bs=1 count=3000000 status=none");
    let recording = rr.record(&[], &program);
    assert_eq!(recording.run.err(), "");
    assert!(!events(&recording).is_empty(), "some seconds, and no checkpoint");
    all_usable(&recording);
    let without = rr.record(&["--checkpoint-interval", "none"], &program);
    assert_eq!(without.run.err(), "");
    assert!(events(&without).is_empty());
}

#[test]
fn a_budget_that_is_too_small_costs_no_more_than_checkpoints() {
    let rr = Rr::new();
    let recording = recorded(
        &rr,
        &["--checkpoint-interval", "20e", "--checkpoint-budget", "1K"],
    );
    let err = recording.run.err();
    assert_eq!(
        err.matches("the budget for checkpoints is too small").count(),
        1,
        "{err}"
    );
    let left = events(&recording);
    assert_eq!(left.len(), 1, "the latest one stays");
    assert!(recording.info().complete);
    all_usable(&recording);

    for (options, why) in [
        (
            ["--checkpoint-interval", "5", "--checkpoint-budget", "0"],
            "not a size",
        ),
        (
            ["--checkpoint-interval", "5", "--checkpoint-budget", "3T"],
            "not a size",
        ),
        (
            ["--checkpoint-interval", "0", "--checkpoint-budget", "1G"],
            "not an interval",
        ),
        (
            ["--checkpoint-interval", "3h", "--checkpoint-budget", "1G"],
            "not an interval",
        ),
        (
            ["--checkpoint-interval", "none", "--checkpoint-budget", "1G"],
            "--checkpoint-interval none",
        ),
    ] {
        let refused = rr.record(&options, &shell("echo ran"));
        let text = refused.run.describe();
        assert!(
            refused.run.shell_status() != 0 && refused.run.err().contains(why),
            "{options:?}: {text}"
        );
        assert!(
            !refused.run.out().contains("ran") && !refused.dir.exists(),
            "{options:?}: {text}"
        );
    }
}

#[test]
fn nothing_is_removed_while_somebody_writes() {
    let rr = Rr::new();
    let cwd = rr.new_dir();
    let (fifo, dir) = (cwd.join("fifo"), rr.new_trace());
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!(
        "for i in 1 2 3; do /bin/true; done; read line <{}",
        fifo.display()
    );
    let mut command = rr.command(["record", "--checkpoint-interval", "5e", "-n", "-o"]);
    command.arg(&dir).args(shell(&script));
    let recording = start(&mut command);
    await_first(&dir);
    let refused = checkpoints(&rr, &["thin", "--keep", "1", dir.to_str().unwrap()]).expect_status(1);
    assert!(
        refused.err().contains("another rr writes checkpoints"),
        "{}",
        refused.describe()
    );
    // The trace can be listed all the same.
    checkpoints(&rr, &[dir.to_str().unwrap()]).expect_success();
    fs::write(&fifo, "\n").unwrap();
    recording.finish(rr.limit).expect_success();
    checkpoints(&rr, &["thin", "--keep", "1", dir.to_str().unwrap()]).expect_success();
}

/// The list never has more files open than the limit of a process.
#[test]
fn many_are_listed_with_few_files_open() {
    let rr = Rr::new();
    let recording = rr.record(
        &["-n", "--checkpoint-interval", "5e", "--checkpoint-wait"],
        &shell(SCRIPT),
    );
    let count = events(&recording).len();
    assert!(count > 60, "{count}");
    let list = format!(
        "ulimit -n 40; {} checkpoints {}",
        rr.bin().display(),
        path(&recording)
    );
    let mut command = rr.plain_command("/bin/sh".as_ref(), rr.home());
    let listed = run(command.args(["-c", &list]), rr.limit).expect_success();
    assert!(!listed.out().contains("cannot be used"), "{}", listed.describe());
}

/// Checks that all checkpoints of a trace can be used. Returns their number, which may be 0.
#[track_caller]
fn whole(rr: &Rr, dir: &Path, what: &str) -> usize {
    let reader = TraceReader::open(dir).unwrap();
    let all = reader.checkpoints().unwrap();
    for at in &all {
        let opened = Checkpoint::open_at(&reader, *at, &reader.header().uuid);
        assert!(opened.is_ok(), "{what}: {:?}", opened.err());
    }
    let verified = run(rr.command(["verify"]).arg(dir), rr.limit);
    assert!(verified.status.success(), "{what}: {}", verified.describe());
    all.len()
}

/// If a removal is killed at a random moment, the rest stays usable, and the next removal completes it.
#[test]
fn a_removal_can_be_killed_at_any_moment() {
    let rr = Rr::new();
    let recording = recorded(&rr, &["--checkpoint-interval", "10e"]);
    let count = events(&recording).len();
    let copy = copy_of(&rr, &recording.dir);
    let thin = |dir: &Path| {
        let mut command = rr.command(["checkpoints", "thin", "--keep", "2"]);
        command.arg(dir);
        command
    };
    let took = run(&mut thin(&copy), rr.limit).expect_success().elapsed;
    let least = on_disk(&copy);
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    eprintln!("seed {seed}, a whole run takes {took:?}");
    let mut random = Random::new(seed);
    for round in 0..if full() { 100 } else { 8 } {
        let copy = copy_of(&rr, &recording.dir);
        let started = start(&mut thin(&copy));
        std::thread::sleep(took.mul_f64(random.below(1000) as f64 / 800.0));
        started.signal(Signal::SIGKILL);
        started.finish(rr.limit);
        let left = whole(&rr, &copy, &format!("round {round}"));
        assert!((2..=count).contains(&left), "{left}");
        run(&mut thin(&copy), rr.limit).expect_success();
        assert_eq!(whole(&rr, &copy, &format!("round {round}, completed")), 2);
        assert!(
            on_disk(&copy) <= least + 4096,
            "{} bytes and not {least}",
            on_disk(&copy)
        );
    }
}

/// A recorder whose budget is always used up can be killed at any moment, too.
#[test]
fn a_recorder_that_keeps_a_budget_can_be_killed_at_any_moment() {
    let rr = Rr::new();
    let options = [
        "-n",
        "--checkpoint-interval",
        "2e",
        "--checkpoint-wait",
        "--checkpoint-budget",
        "100K",
    ];
    let cwd = rr.new_dir();
    let mut random = Random::new(7);
    for round in 0..if full() { 60 } else { 5 } {
        let (started, dir) = rr.start_recording(&options, &shell(SCRIPT), &cwd);
        await_first(&dir);
        // The budget removes checkpoints all the time. One recorder is killed while there are several.
        if round == 0 {
            stop_with(&started, &dir, 3);
        } else {
            std::thread::sleep(Duration::from_millis(random.below(700)));
        }
        started.signal(Signal::SIGKILL);
        started.finish(rr.limit);
        let left = whole(&rr, &dir, &format!("round {round}"));
        assert!(round > 0 || left >= 3, "{left} checkpoints");
    }
}

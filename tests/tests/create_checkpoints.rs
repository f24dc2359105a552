//! `rr create-checkpoints`: a checkpoint made by replaying equals the recorder's at the same event
//! (I4), and whatever ends the command, the trace stays whole (I5).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use rr_checkpoint::{BlockCache, Checkpoint, compare_checkpoints};
use rr_tests::damage::{Tmpfs, copy_of};
use rr_tests::guest::names as names_of_guests;
use rr_tests::matrix::{check_recording, record_options};
use rr_tests::programs::{Random, shell};
use rr_tests::run::{no_process_left_in, start};
use rr_tests::{Guest, NO_CHECKPOINTS, Plan, Rr, Run, full, run};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;

/// A copy of a trace without its checkpoints.
fn bare_copy(rr: &Rr, dir: &Path) -> PathBuf {
    let copy = copy_of(rr, dir);
    fs::remove_dir_all(copy.join("checkpoints")).unwrap();
    fs::create_dir(copy.join("checkpoints")).unwrap();
    copy
}

#[track_caller]
fn create(rr: &Rr, options: &[&str], dir: &Path) -> Run {
    let mut command = rr.command(["create-checkpoints"]);
    command.args(options).arg(dir);
    run(&mut command, rr.limit)
}

/// A recording without the buffer, whose checkpoints are all made afterwards. (By default, one that takes longer than a second has some.)
const BARE: [&str; 3] = ["-n", NO_CHECKPOINTS[0], NO_CHECKPOINTS[1]];

/// The names in the directory of checkpoints.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("checkpoints")).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Compares every checkpoint of the recorder with the one that a replay has made at the same event.
/// Returns their number.
#[track_caller]
fn compare(recorded: &Path, replayed: &Path) -> usize {
    compare_from(EventNumber(0), recorded, replayed)
}

/// Same as [`compare`], only for the checkpoints at `first` and later events.
#[track_caller]
fn compare_from(first: EventNumber, recorded: &Path, replayed: &Path) -> usize {
    let (ours, theirs) = (
        TraceReader::open(recorded).unwrap(),
        TraceReader::open(replayed).unwrap(),
    );
    let caches = [0; 2].map(|_| Arc::new(BlockCache::new(64 << 20)));
    let open = |reader: &TraceReader, at: EventNumber, cache: &Arc<BlockCache>| {
        let mut checkpoint = Checkpoint::open_at(reader, at, &reader.header().uuid).unwrap();
        checkpoint.share(Arc::clone(cache));
        checkpoint
    };
    let mut all = ours.checkpoints().unwrap();
    all.retain(|at| *at >= first);
    for at in &all {
        let (a, b) = (open(&ours, *at, &caches[0]), open(&theirs, *at, &caches[1]));
        let differences = compare_checkpoints(&a, &b, &|file| Ok(ours.open_file(file)?), 10).unwrap();
        assert!(
            differences.is_empty(),
            "event {at}: recorded / replayed\n{}",
            differences.join("\n")
        );
        // The checkpoints must not differ in anything else either.
        let plain = |checkpoint: &Checkpoint| {
            let mut image = checkpoint.image().clone();
            let tasks = image.tasks.iter_mut();
            tasks.for_each(|task| task.xstate = task.xstate.normalised());
            image
        };
        assert!(plain(&a) == plain(&b), "event {at}: images differ");
    }
    all.len()
}

/// Maximum number of events for a checkpoint at each: more would take too long to verify.
const MANY_EVENTS: u64 = 6000;

/// Records a guest with checkpoints, makes them again in a copy without, and compares.
#[track_caller]
fn recreate(name: &str) {
    let rr = Rr::new().with_limit(Duration::from_secs(240));
    let guest = Guest::build(name);
    assert!(!guest.special, "{name} needs a test of its own");
    let plan = Plan {
        // The matrix replays from more of the recorder's checkpoints, which are equal.
        replays: 3,
        waits: 400,
        ..Plan::guest(guest.ending)
    };
    let program: Vec<_> = std::iter::once(guest.path.clone().into_os_string())
        .chain(guest.args.iter().map(Into::into))
        .collect();
    // First every call is an event, with a checkpoint at each; then the library makes calls, which are
    // no events.
    let count = rr.record(&BARE, &program).info().events;
    if count > MANY_EVENTS {
        eprintln!("{name}: {count} events are too many");
        return;
    }
    let most = if full() { 400 } else { 100 };
    for buffered in [false, true] {
        let interval = if buffered { 1 } else { (count / most).max(1) };
        let plan = Plan {
            events: count,
            ..plan.clone()
        };
        let mut options = record_options(&plan, Some(interval));
        options.push("--checkpoint-wait".into());
        options.dedup();
        if !buffered {
            options.push("-n".into());
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let recording = rr.record(&options, &program);
        assert!(
            !names(&recording.dir).is_empty(),
            "no checkpoints: {}",
            recording.run.describe()
        );
        let copy = bare_copy(&rr, &recording.dir);
        // The recorder has checkpoints at the events where one was due and possible.
        // The first half of a small program's events is the loader's, and alike in all.
        let first = match full() {
            true => 1,
            false => (recording.info().events / 2).max(1),
        };
        let made = create(&rr, &["-i", "1", "-s", &first.to_string()], &copy).expect_success();
        let again = rr.recording_from(copy, recording.run.expect_status(guest.ending.shell_status()));
        let compared = compare_from(EventNumber(first), &recording.dir, &again.dir);
        assert!(compared > 0, "no checkpoint was made by both");
        eprintln!("{name}: {compared} compared; {}", made.out().trim());
        check_recording(&again, &plan, Some(1));
        again.remove();
        let _ = fs::remove_dir_all(recording.dir);
    }
}

macro_rules! recreated {
    ($($name:ident)*) => {
        const RECREATED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                recreate(stringify!($name));
            }
        )*
    };
}

// One guest of each kind, of at most some 1,000 events: the others take too long for the quick run.
recreated! {
    big_rss
    clone_vm
    fork_memory
    jit
    madvise
    memfd
    mremap
    private_and_shared
    private_written
    shared_upgrade
    signal_nested
    sysv_shm
    thread_exec
    thread_robust
    vfork_exec
    xstate
}

/// All other guests.
#[test]
fn all_others() {
    if !full() {
        return;
    }
    let is_other = |name: &String| !Guest::build(name).special && !RECREATED.contains(&name.as_str());
    let fails = |name: &String| std::panic::catch_unwind(|| recreate(name)).is_err();
    let failed: Vec<String> = names_of_guests()
        .into_iter()
        .filter(is_other)
        .filter(fails)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// Many short processes: some hundreds of events in a second.
const SCRIPT: &str = "for i in 1 2 3 4 5 6 7 8 9; do /bin/true; echo $i; done";

#[test]
fn what_is_there_is_not_made_again() {
    let rr = Rr::new();
    let recording = rr.record(&BARE, &shell(SCRIPT));
    let last = recording.info().events;
    let dir = &recording.dir;
    let stamp = |name: &str| {
        fs::metadata(dir.join("checkpoints").join(name))
            .unwrap()
            .modified()
            .unwrap()
    };
    let name = |event: u64| format!("{event:016}.ckpt");

    let run = create(&rr, &["-s", "100", "-e", "140", "-i", "20"], dir).expect_success();
    assert_eq!(run.out(), "3 checkpoints written, 0 were there already\n");
    assert_eq!(names(dir), [name(100), name(120), name(140)]);
    let before = stamp(&name(120));

    let run = create(&rr, &["-s", "110", "-e", "160", "-i", "10"], dir).expect_success();
    assert_eq!(run.out(), "4 checkpoints written, 2 were there already\n");
    assert_eq!(stamp(&name(120)), before);
    let run = create(&rr, &["-s", "110", "-e", "160", "-i", "10"], dir).expect_success();
    assert_eq!(run.out(), "0 checkpoints written, 6 were there already\n");

    // The replay starts from a stored checkpoint. A single event can be named.
    let at = (last - 20).to_string();
    create(&rr, &["-s", &at, "-e", &at], dir).expect_success();
    let replay = recording.replay(&["-v", "-g", &at]).expect_success();
    assert!(
        replay.err().contains(&format!("checkpoint at event {at}")),
        "{}",
        replay.describe()
    );
    // The default makes few checkpoints of a short recording.
    let run = create(&rr, &[], dir).expect_success();
    assert!(run.out().contains("checkpoints written"), "{}", run.describe());
    recording.verify();
}

/// Checkpoints that do not fit into the budget are not made again and again.
#[test]
fn what_was_removed_is_not_made_again() {
    let rr = Rr::new();
    let recording = rr.record(&BARE, &shell(SCRIPT));
    let dir = &recording.dir;
    let options = ["-i", "3e", "--checkpoint-budget", "200K"];
    let run = create(&rr, &options, dir).expect_success();
    assert!(
        run.out().contains("were removed to keep the budget"),
        "{}",
        run.describe()
    );
    let left = names(dir);
    let run = create(&rr, &options, dir).expect_success();
    assert!(
        run.out().starts_with("0 checkpoints written") && run.out().contains("more have no room"),
        "{}",
        run.describe()
    );
    assert_eq!(names(dir), left);
    // A checkpoint of a named event is made.
    let at = (recording.info().events - 5).to_string();
    let one = [&["-s", &at, "-e", &at], &options[2..]].concat();
    let run = create(&rr, &one, dir).expect_success();
    assert!(!run.out().contains("no room"), "{}", run.describe());
    recording.verify();
}

/// All units of the recorder. The same request finds nothing to do the second time, and existing
/// checkpoints of another request count.
#[test]
fn intervals_are_those_of_the_recorder() {
    let rr = Rr::new();
    let recording = rr.record(&NO_CHECKPOINTS, &shell(SCRIPT));
    let bare = recording.dir.clone();
    for (interval, least) in [("60", 3), ("20e", 3), ("1ms", 3), ("1s", 0), ("auto", 0)] {
        let copy = bare_copy(&rr, &bare);
        let first = create(&rr, &["-i", interval], &copy).expect_success();
        let made = names(&copy).len();
        assert!(made >= least, "{interval}: {}", first.describe());
        let again = create(&rr, &["-i", interval], &copy).expect_success();
        let expected = format!("0 checkpoints written, {made} were there already\n");
        assert_eq!(again.out(), expected, "{interval}");
        // The last checkpoint, which no other refers to, is lost: only that one is made again.
        if made >= 3 {
            let before = names(&copy);
            fs::remove_file(copy.join("checkpoints").join(&before[made - 1])).unwrap();
            let run = create(&rr, &["-i", interval], &copy).expect_success();
            assert_eq!(
                run.out(),
                format!("1 checkpoints written, {} were there already\n", made - 1)
            );
            assert_eq!(names(&copy), before, "{interval}");
        }
        rr.recording_from(copy, again).verify();
    }
}

#[test]
fn what_cannot_be_is_said() {
    let rr = Rr::new();
    let recording = rr.record(&NO_CHECKPOINTS, &shell("/bin/true"));
    let last = recording.info().events;
    let beyond = (last + 1).to_string();
    let refused = |options: &[&str], words: &str| {
        let run = create(&rr, options, &recording.dir);
        assert_ne!(run.shell_status(), 0, "{}", run.describe());
        assert!(run.err().contains(words), "{words:?}\n{}", run.describe());
        assert!(names(&recording.dir).is_empty());
    };
    refused(&["-i", "0"], "invalid value '0'");
    refused(&["-i", "x"], "invalid value 'x'");
    refused(&["-s", "0"], "--start 0: the recording has the events 1 to");
    refused(&["-e", &beyond], "--end ");
    refused(&["-s", &beyond], "--start ");
    refused(&["-s", "20", "-e", "10"], "--start 20 comes after --end 10");
    // No task is alive after the last event.
    let last = last.to_string();
    let run = create(&rr, &["-s", &last, "-i", "1"], &recording.dir).expect_success();
    assert!(run.err().contains("no task is left"), "{}", run.describe());

    // An unfinished trace gets checkpoints up to its end.
    let copy = copy_of(&rr, &recording.dir);
    let segment = fs::read_dir(copy.join("segments"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.set_len(file.metadata().unwrap().len() - 40).unwrap();
    let torn = rr.recording_from(copy, recording.run);
    let info = torn.info();
    if info.events > 10 {
        create(&rr, &["-i", "5"], &torn.dir).expect_success();
        torn.verify();
    }
}

#[test]
fn a_trace_that_cannot_be_written_to() {
    let Some(rr) = Rr::unprivileged() else {
        eprintln!("skipped: no right to change the user");
        return;
    };
    let recording = rr.record(&NO_CHECKPOINTS, &shell("/bin/true"));
    let place = recording.dir.join("checkpoints");
    let mode = |mode| fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let run = create(&rr, &["-i", "10"], &recording.dir);
    mode(0o755);
    assert_eq!(run.shell_status(), 1, "{}", run.describe());
    assert!(
        run.err().contains("cannot write checkpoints into") && run.err().contains("ermission denied"),
        "{}",
        run.describe()
    );
}

#[test]
fn a_full_disk_loses_nothing() {
    let rr = Rr::new();
    let recording = rr.record(&BARE, &shell(SCRIPT));
    let bytes: u64 = rr_tests::damage::files(&recording.dir)
        .iter()
        .map(|file| fs::metadata(file).unwrap().len().next_multiple_of(4096))
        .sum();
    let place = rr.new_dir();
    let Some(tmpfs) = Tmpfs::mount(&place, &(bytes + (2 << 20)).to_string()) else {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    };
    let dir = place.join("trace");
    run(
        rr.plain_command("cp".as_ref(), rr.home())
            .arg("-r")
            .arg(&recording.dir)
            .arg(&dir),
        rr.limit,
    )
    .expect_success();
    // With the default budget, some checkpoints would be removed before the disk is full.
    let options = ["-i", "1", "--checkpoint-budget", "1G"];
    let failed = create(&rr, &options, &dir).expect_status(1);
    assert!(
        failed.err().contains("No space left on device") && failed.err().contains("could not be written"),
        "{}",
        failed.describe()
    );
    let there = names(&dir);
    assert!(
        there.len() > 2 && there.iter().all(|name| !name.starts_with('.')),
        "{there:?}"
    );
    let small = rr.recording_from(dir.clone(), failed);
    small.verify();
    tmpfs.resize("1g");
    create(&rr, &options, &dir).expect_success();
    assert_eq!(names(&dir).len() as u64, small.info().events - 1);
    small.verify();
}

/// The command is killed at random moments, again and again: in the end all checkpoints exist.
#[test]
fn killed_at_any_moment() {
    let rr = Rr::new();
    let recording = rr.record(&BARE, &shell(SCRIPT));
    let whole = bare_copy(&rr, &recording.dir);
    let took = create(&rr, &["-i", "1"], &whole).expect_success().elapsed;
    let copy = bare_copy(&rr, &recording.dir);
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    eprintln!("seed {seed}, a whole run takes {took:?}");
    let mut random = Random::new(seed);
    let reader = TraceReader::open(&copy).unwrap();
    for round in 0..if full() { 60 } else { 12 } {
        let before = names(&copy);
        let cwd = rr.new_dir();
        let mut command = rr.plain_command(rr.bin().as_os_str(), &cwd);
        command.args(["create-checkpoints", "-i", "1"]).arg(&copy);
        let started = start(&mut command);
        std::thread::sleep(took.mul_f64(random.below(1000) as f64 / 4000.0));
        let is_asked = round % 3 == 2;
        started.signal(if is_asked { Signal::SIGINT } else { Signal::SIGKILL });
        let ended = started.finish(rr.limit);
        no_process_left_in(&cwd);
        assert!(!ended.err().contains("panicked"), "{}", ended.describe());
        let left = names(&copy);
        // ^C may come before rr has its handler, and kill rr.
        if is_asked && ended.status.code().is_some() {
            assert!(
                // Leftovers of a killed command stay until the next command writes.
                left.iter()
                    .all(|name| !name.starts_with('.') || before.contains(name)),
                "{left:?}\n{}",
                ended.describe()
            );
        }
        for at in reader.checkpoints().unwrap() {
            let opened = Checkpoint::open_at(&reader, at, &reader.header().uuid);
            assert!(opened.is_ok(), "round {round}: {:?}", opened.err());
        }
        if round % 6 == 0 {
            run(rr.command(["verify"]).arg(&copy), rr.limit).expect_success();
        }
    }
    create(&rr, &["-i", "1"], &copy).expect_success();
    assert_eq!(names(&copy), names(&whole));
    assert_eq!(compare(&whole, &copy), names(&whole).len());
    run(rr.command(["verify"]).arg(&copy), rr.limit).expect_success();
}

/// Two commands at the same time: one writes, the other says so, and neither removes the other's
/// unfinished files.
#[test]
fn two_at_the_same_time() {
    let rr = Rr::new();
    let recording = rr.record(&BARE, &shell(SCRIPT));
    let mut command = rr.command(["create-checkpoints", "-i", "1"]);
    let first = start(command.arg(&recording.dir));
    while names(&recording.dir).len() < 5 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = create(&rr, &["-i", "3"], &recording.dir).expect_status(1);
    assert!(
        second.err().contains("another rr writes checkpoints"),
        "{}",
        second.describe()
    );
    first.finish(rr.limit).expect_success();
    recording.verify();
}

//! The flight recorder (`rr record --keep-last`): the trace loses its beginning while it is recorded, and what is left is whole.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rr_tests::guest::Guest;
use rr_tests::programs::Random;
use rr_tests::rr::{Recording, words};
use rr_tests::run::{Started, no_process_left_in};
use rr_tests::{Rr, full};

/// For each thing that is waited for.
const LIMIT: Duration = Duration::from_secs(300);

/// The guest, with this number of requests (0: until it is killed).
fn server(requests: u32) -> Vec<OsString> {
    let guest = Guest::build("flight");
    words([guest.path.into_os_string(), requests.to_string().into()])
}

/// The bytes of the files below a directory on the disk.
fn bytes_in(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        // Files go while they are counted.
        let Ok(meta) = entry.metadata() else { continue };
        sum += match meta.is_dir() {
            true => bytes_in(&entry.path()),
            false => meta.blocks() * 512,
        };
    }
    sum
}

/// The event that the trace begins after.
fn begin(recording: &Recording<'_>) -> u64 {
    let info = recording.rr(&["traceinfo"]).expect_success().out();
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    info["firstEvent"].as_u64().unwrap() - 1
}

/// Checks what is left of a recording: replay from its first checkpoint and from each other one, and all comparisons.
#[track_caller]
fn check(recording: &Recording<'_>) {
    let info = recording.info();
    let begin = begin(recording);
    assert!(begin > 0, "nothing was deleted");
    assert_eq!(info.checkpoints.first().map(|c| c.event), Some(begin));
    recording.verify().expect_success();
    // With the original output, each replay shows its last part.
    let out = recording.run.out();
    let whole = recording.replay(&[]).expect_success();
    assert!(
        whole.err().contains("has lost its beginning"),
        "{}",
        whole.describe()
    );
    if info.complete {
        // A killed recorder can leave less than a request, or lose nothing but the start of the program.
        assert!(!whole.out().is_empty() && whole.out().len() < out.len());
    }
    let mut longest = whole.out();
    // Output that the recorder had no time to write is missing at the end.
    assert!(out.contains(&longest), "{}", whole.describe());
    let every = if full() {
        1
    } else {
        info.checkpoints.len().div_ceil(4)
    };
    for checkpoint in info.checkpoints.iter().step_by(every) {
        let replay = recording
            .replay(&["-g", &checkpoint.event.to_string()])
            .expect_success();
        assert!(longest.ends_with(&replay.out()), "{}", replay.describe());
        longest = replay.out();
    }
    // Segments, checkpoints and files that nobody needs are gone.
    let first = |part: &str, extension: &str| {
        let entries = std::fs::read_dir(recording.dir.join(part)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let numbers = names.filter_map(|name| name.strip_suffix(extension)?.parse::<u64>().ok());
        numbers.min().unwrap()
    };
    if info.complete {
        assert!(first("segments", ".seg") <= begin + 1);
        assert_eq!(first("checkpoints", ".ckpt"), begin);
    }
}

#[test]
fn what_is_left_replays() {
    let rr = Rr::new();
    let options = ["--keep-last", "300ms", "--checkpoint-interval", "15ms"];
    let recording = rr.record(&options, &server(700));
    assert_eq!(recording.run.shell_status(), 0, "{}", recording.run.describe());
    check(&recording);
    let begin = begin(&recording);

    // The files that were mapped before are gone, from the trace and from the store.
    let files = |dir: &Path| std::fs::read_dir(dir).map_or(0, |all| all.count());
    let kept = files(&recording.dir.join("files"));
    // The program, its loader and libc stay. On a busy machine the last 300 ms map nothing else.
    assert!((3..40).contains(&kept), "{kept} files");
    let store = rr.home().join("traces/.files");
    assert!(store.is_dir(), "the store is elsewhere");
    assert!(files(&store) <= kept + 2, "{} files in the store", files(&store));

    // Processes that are older than the beginning are known: the server, and its helper.
    let ps = recording.rr(&["ps"]).expect_success().out();
    let lines: Vec<&str> = ps.lines().collect();
    assert!(
        lines[1].contains("--\t0\t") && lines[1].contains("flight"),
        "{ps}"
    );
    assert!(lines[2].ends_with("\t5\t(forked without exec)"), "{ps}");
    let helper = lines[2].split('\t').next().unwrap().to_owned();

    // The places that are gone, in words.
    let refused = |args: &[&str], words: &str| {
        let run = recording.rr(args);
        assert!(
            run.shell_status() == 1 && run.err().contains(words),
            "{}",
            run.describe()
        );
    };
    refused(&["replay", "-a", "-g", "1"], "those before were deleted");
    refused(&["replay", "-a", "--until", "1"], "those before were deleted");
    refused(&["replay", "-a", "--from-start"], "those before were deleted");
    let first = begin.to_string();
    let rm = rr.rr(["checkpoints", "rm", recording.dir.to_str().unwrap(), &first]);
    assert!(
        rm.shell_status() == 1 && rm.err().contains("lost its beginning"),
        "{}",
        rm.describe()
    );
    let dump = recording.rr(&["dump"]).expect_success().out();
    assert!(
        dump.contains(&format!("global_time:{}, ", begin + 1)),
        "{}",
        &dump[..200]
    );
    let early = rr
        .rr(["dump", recording.dir.to_str().unwrap(), "1-3"])
        .expect_success();
    assert!(
        early.out().is_empty() && early.err().contains("were deleted"),
        "{}",
        early.describe()
    );

    // One process alone, up to its end; other commands.
    recording.replay(&["-q", "-f", &helper, "-e"]).expect_success();
    recording.replay(&["-q", "-p", "flight"]).expect_success();
    recording.rr(&["backtrace", "--at-end"]).expect_success();
    let page = rr.new_dir().join("page.html");
    recording
        .rr(&["timeline", "-o", page.to_str().unwrap()])
        .expect_success();
    let mapped = std::fs::read_dir(recording.dir.join("files")).unwrap();
    let mapped: Vec<OsString> = mapped
        .map(|entry| entry.unwrap().path().into_os_string())
        .collect();
    let names = rr
        .rr([vec!["filename".into()], mapped].concat())
        .expect_success()
        .out();
    assert!(names.contains("/flight") && names.contains("libc.so"), "{names}");
    recording
        .rr(&["create-checkpoints", "-i", "20e"])
        .expect_success();
    recording.verify().expect_success();

    // Packed, and unpacked again.
    let pack = rr.new_dir().join("last.rrpack");
    let run = |args: &[&Path]| rr.rr(args.iter().map(|arg| arg.as_os_str())).expect_success();
    run(&["pack".as_ref(), "-o".as_ref(), &pack, &recording.dir]);
    run(&["verify".as_ref(), &pack]);
    let packed = run(&["replay".as_ref(), "-a".as_ref(), &pack]);
    assert_eq!(packed.out(), recording.replay(&[]).out());
    let unpacked = rr.new_dir().join("unpacked");
    run(&["unpack".as_ref(), "-o".as_ref(), &unpacked, &pack]);
    run(&["verify".as_ref(), &unpacked]);
    recording.remove();
}

/// gdb starts where the recording begins, goes backwards to there, and finds symbols and libraries.
#[test]
fn gdb_debugs_what_is_left() {
    let rr = Rr::new();
    let options = ["--keep-last", "200ms", "--checkpoint-interval", "15ms"];
    let recording = rr.record(&options, &server(500));
    let begin = begin(&recording);
    let script = rr.new_dir().join("script");
    let commands = "set pagination off\nwhen\nbreak request\ncontinue\ncontinue\nbacktrace\nreverse-continue\nreverse-continue\n\
                    reverse-continue\nwhen\ninfo sharedlibrary\nrun\nwhen\n";
    std::fs::write(&script, commands).unwrap();
    let mut command = rr.command(["replay", recording.dir.to_str().unwrap(), "--", "-batch", "-x"]);
    command.arg(&script);
    let run = rr_tests::run::run(&mut command, LIMIT).expect_success();
    let out = run.out();
    assert!(out.contains("in main (argc="), "{}", run.describe());
    assert!(
        out.contains("No more reverse-execution history"),
        "{}",
        run.describe()
    );
    assert!(out.contains("libc.so.6"), "{}", run.describe());
    let there = format!("Completed event: {begin}");
    assert_eq!(out.matches(&there).count(), 3, "{}", run.describe());
    recording.remove();
}

fn is_there(trace: &Path) -> bool {
    trace.join("beginning").exists()
}

/// Waits until something was deleted from a trace that is being recorded.
#[track_caller]
fn wait_until_it_begins_anew(started: &mut Started, trace: &Path) {
    let from = Instant::now();
    while !is_there(trace) {
        assert!(!started.ended() && from.elapsed() < LIMIT, "nothing is deleted");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whenever the recorder is killed, what is left replays: among other moments, in the middle of a deletion.
#[test]
fn a_killed_recorder_leaves_its_last_part() {
    let rr = Rr::new();
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    for round in 0..if full() { 40 } else { 4 } {
        let dir = rr.new_dir();
        let keep = ["40ms", "150ms", "1500K", "3M"][round % 4];
        let options = ["--keep-last", keep, "--checkpoint-interval", "10ms"];
        let (mut started, trace) = rr.start_recording(&options, &server(0), &dir);
        wait_until_it_begins_anew(&mut started, &trace);
        std::thread::sleep(Duration::from_micros(random.below(400_000)));
        started.signal(Signal::SIGKILL);
        let run = started.finish(LIMIT);
        assert_eq!(run.shell_status(), 137, "{}", run.describe());
        no_process_left_in(&dir);
        let recording = rr.recording_from(trace, run);
        check(&recording);
        recording.remove();
    }
}

/// Resident memory of a process in bytes, if it has some still.
fn memory_of(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
}

/// Disk and memory of the recorder do not grow (`scripts/soak` does this for half an hour).
#[test]
fn disk_and_memory_stay_flat() {
    // Beside other recordings of busy servers this one gets a small part of a processor. The trace is not on a disk: while a
    // disk stalls, events and checkpoints wait in memory, up to the bounds of their writers, some 10 MB for each second.
    let rr = Rr::new().with_limit(LIMIT).with_traces_in_memory();
    // The work is the same for both, however long it takes. What is left has the memory of the program too, and the
    // files that it has mapped: some 7 MB.
    let program = server(if full() { 30_000 } else { 4000 });
    let all = rr.record(&["--checkpoint-interval", "20ms"], &program);
    let needed = bytes_in(&all.dir);
    all.remove();
    let options = ["--keep-last", "2M", "--checkpoint-interval", "20ms"];
    let (mut started, trace) = rr.start_recording(&options, &program, &rr.new_dir());
    wait_until_it_begins_anew(&mut started, &trace);
    let (mut disk, mut memory) = (0, Vec::new());
    while !started.ended() {
        disk = disk.max(bytes_in(&trace));
        memory.extend(memory_of(started.pid()));
        std::thread::sleep(Duration::from_millis(20));
    }
    let recording = rr.recording_from(trace, started.finish(LIMIT));
    assert!(
        disk < needed / 2,
        "{disk} bytes on the disk, {needed} without a limit"
    );
    let half = memory.len() / 2;
    let (early, late) = (
        memory[..half].iter().max().unwrap(),
        memory[half..].iter().max().unwrap(),
    );
    assert!(
        late < &(early + (4 << 20)),
        "memory of the recorder: {early} bytes, then {late}"
    );
    check(&recording);
    recording.remove();
}

/// Waits for a file that a snapshot makes beside the trace.
#[track_caller]
fn wait_for(path: &Path) {
    let from = Instant::now();
    while !path.exists() {
        assert!(from.elapsed() < LIMIT, "{} is not there", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Verifies a snapshot, and returns its output, which must be a part of the program's.
#[track_caller]
fn check_snapshot(rr: &Rr, pack: &Path, out: &str) -> String {
    rr.rr(["verify".as_ref(), pack]).expect_success();
    let replay = rr.rr(["replay".as_ref(), "-a".as_ref(), pack]).expect_success();
    assert!(
        !replay.out().is_empty() && out.contains(&replay.out()),
        "{}",
        replay.describe()
    );
    replay.out()
}

/// Snapshots are whole, whoever asks for them and however, while the recorder deletes. The program goes on.
#[test]
fn snapshots_are_whole() {
    let rr = Rr::new();
    let options = ["--keep-last", "300ms", "--checkpoint-interval", "10ms"];
    let (mut started, trace) = rr.start_recording(&options, &server(0), &rr.new_dir());
    wait_until_it_begins_anew(&mut started, &trace);
    let recorder = started.pid().to_string();
    let tracees = std::fs::read_to_string(format!("/proc/{recorder}/task/{recorder}/children")).unwrap();
    let tracee = tracees.split_whitespace().next().unwrap().to_owned();
    let of_trace = trace.to_str().unwrap().to_owned();
    let mut packs = Vec::new();
    for (n, what) in [&tracee, &of_trace].into_iter().enumerate() {
        let pack = trace.with_file_name(format!("{n}.rrpack"));
        let run = rr
            .rr(["snapshot", "-o", pack.to_str().unwrap(), what])
            .expect_success();
        assert!(
            run.out().starts_with(pack.to_str().unwrap()),
            "{}",
            run.describe()
        );
        packs.push(pack);
    }
    // The recorder itself, twice.
    for n in 1..=2 {
        started.signal(Signal::SIGUSR1);
        let pack = trace.with_file_name(format!("trace-snapshot-{n}.rrpack"));
        wait_for(&pack);
        packs.push(pack);
    }
    // Nobody is disturbed by one that fails.
    let failed = rr.rr(["snapshot", "-o", "/nowhere/at/all.rrpack", &recorder]);
    assert_eq!(failed.shell_status(), 1, "{}", failed.describe());
    assert!(
        failed.err().contains("/nowhere/at/all.rrpack"),
        "{}",
        failed.describe()
    );
    let before = started.stdout_so_far().len();
    std::thread::sleep(Duration::from_millis(300));
    assert!(started.stdout_so_far().len() > before, "the program stands still");
    assert!(!started.ended());
    started.signal(Signal::SIGTERM);
    let recording = rr.recording_from(trace, started.finish(LIMIT));
    let err = recording.run.err();
    assert_eq!(err.matches("rr: snapshot of events ").count(), 2, "{err}");
    assert_eq!(err.matches("rr: snapshot: ").count(), 2, "{err}");
    let out = recording.run.out();
    let shown: Vec<String> = packs.iter().map(|pack| check_snapshot(&rr, pack, &out)).collect();
    assert!(shown[0] != shown[3], "the last snapshot is the first");
    check(&recording);
    let links = std::fs::read_dir(&recording.dir).unwrap();
    let links = links.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().starts_with(".snapshot")
    });
    assert_eq!(links.count(), 0, "links are left");
    recording.remove();
}

/// A recording that keeps everything, and processes that are not recorded.
#[test]
fn snapshots_of_other_recordings() {
    let rr = Rr::new();
    let options = ["--checkpoint-interval", "20ms"];
    let (started, trace) = rr.start_recording(&options, &server(0), &rr.new_dir());
    while started.stdout_so_far().len() < 2000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let run = rr.rr(["snapshot".as_ref(), trace.as_os_str()]).expect_success();
    started.signal(Signal::SIGKILL);
    let killed = started.finish(LIMIT);
    let pack = trace.with_file_name("trace-snapshot-1.rrpack");
    assert!(
        run.out().starts_with(pack.to_str().unwrap()),
        "{}",
        run.describe()
    );
    assert!(
        killed
            .out()
            .starts_with(&check_snapshot(&rr, &pack, &killed.out()))
    );
    for (what, words) in [
        ("1", "no rr that records"),
        ("999999999", "there is no process"),
        ("nothing", "there is no trace"),
    ] {
        let run = rr.rr(["snapshot", what]);
        assert_eq!(run.shell_status(), 1, "{}", run.describe());
        assert!(run.err().contains(words), "{}", run.describe());
    }
    rr.recording_from(trace, killed).remove();
}

#[test]
fn wrong_values_are_refused() {
    let rr = Rr::new();
    for value in ["", "10", "0m", "0G", "x", "1.5G", "10 m"] {
        let run = rr.rr(["record", "--keep-last", value, "true"]);
        assert_eq!(run.shell_status(), 1, "{}", run.describe());
        assert!(
            run.err()
                .contains("neither a time (500ms, 90s, 10m, 2h) nor a size"),
            "{}",
            run.describe()
        );
    }
    let run = rr.rr([
        "record",
        "--keep-last",
        "1m",
        "--checkpoint-interval",
        "none",
        "true",
    ]);
    assert!(
        run.shell_status() == 1 && run.err().contains("needs checkpoints"),
        "{}",
        run.describe()
    );
    // A window that is too small keeps two checkpoints, and says so once.
    let run = rr
        .record(
            &["--keep-last", "10K", "--checkpoint-interval", "15ms"],
            &server(150),
        )
        .run;
    assert_eq!(run.shell_status(), 0, "{}", run.describe());
    assert_eq!(
        run.err().matches("--keep-last is too small").count(),
        1,
        "{}",
        run.describe()
    );
}

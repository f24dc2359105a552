//! `rr pack`: one file replaces the directory. A damaged file is noticed, and no half-written file is
//! left.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rr_tests::damage::{Tmpfs, careful, try_everything, victim};
use rr_tests::programs::{Random, is_installed, shell};
use rr_tests::rr::words;
use rr_tests::run::start;
use rr_tests::{Guest, Recording, Rr, Run, full, run};

/// An rr command, with a path at the end.
#[track_caller]
pub fn on(rr: &Rr, args: &[&str], path: &Path) -> Run {
    let args = args
        .iter()
        .map(OsString::from)
        .chain([path.as_os_str().to_owned()]);
    let run = rr.rr(args);
    assert!(!run.err().contains("panicked"), "{}", run.describe());
    run
}

/// Packs a recording, and moves the file to a directory of its own.
#[track_caller]
pub fn pack(rr: &Rr, recording: &Recording<'_>) -> PathBuf {
    let made = rr.new_dir().join("made.rrpack");
    on(rr, &["pack", "-o", made.to_str().unwrap()], &recording.dir).expect_success();
    let moved = rr.new_dir().join("moved");
    fs::rename(&made, &moved).unwrap();
    moved
}

/// The output of the commands that read a trace, without paths and sizes.
#[track_caller]
fn said(rr: &Rr, trace: &Path) -> Vec<String> {
    let info = on(rr, &["traceinfo"], trace).expect_success();
    let mut info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    info["path"].take();
    info["checkpointTotals"].take();
    for checkpoint in info["checkpoints"].as_array_mut().unwrap() {
        checkpoint["bytes"].take();
    }
    let text = |command| on(rr, &[command], trace).expect_success().out();
    vec![info.to_string(), text("dump"), text("ps")]
}

fn checkpoints(rr: &Rr, trace: &Path) -> Vec<u64> {
    let info = on(rr, &["traceinfo"], trace).expect_success();
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    let all = info["checkpoints"].as_array().unwrap();
    all.iter().map(|c| c["event"].as_u64().unwrap()).collect()
}

/// Checks that replay and verification do the same as the recording, from the start and from some
/// checkpoints.
#[track_caller]
fn replays(rr: &Rr, trace: &Path, recorded: &Run) {
    let replay = on(rr, &["replay", "-a"], trace);
    assert_eq!(replay.stdout, recorded.stdout, "{}", replay.describe());
    assert!(replay.status.success(), "{}", replay.describe());
    let events = checkpoints(rr, trace);
    for event in [events.first(), events.get(events.len() / 2), events.last()] {
        let from = on(rr, &["replay", "-a", "-g", &event.unwrap().to_string()], trace);
        assert!(recorded.stdout.ends_with(&from.stdout), "{}", from.describe());
        assert!(from.status.success(), "{}", from.describe());
    }
    on(rr, &["verify"], trace).expect_success();
}

#[test]
fn a_pack_does_what_the_directory_did_and_so_does_what_is_unpacked() {
    let rr = Rr::new();
    // Mappings that reach beyond the end of their file, shared objects that are files, several processes, threads.
    let guests = ["private_resized", "shared_clean", "fork_memory", "thread_pipes"];
    for (name, options) in guests.iter().flat_map(|name| {
        let interval = if full() { "1e" } else { "11e" };
        let buffered = vec!["--checkpoint-interval", interval, "--checkpoint-wait"];
        let plain = [&buffered[..], &["-n"]].concat();
        [(name, buffered), (name, plain)]
    }) {
        let guest = Guest::build(name);
        let program = rr.new_dir().join(name);
        rr_tests::rr::copy_program(&guest.path, &program);
        let mut line = vec![program.clone().into_os_string()];
        line.extend(guest.args.iter().map(OsString::from));
        let recording = rr.record(&options, &line);
        assert_eq!(recording.run.shell_status(), guest.ending.shell_status());
        let before = said(&rr, &recording.dir);
        let moved = pack(&rr, &recording);
        fs::remove_dir_all(&recording.dir).unwrap();
        fs::remove_file(&program).unwrap();
        assert_eq!(said(&rr, &moved), before, "{name} {options:?}");
        replays(&rr, &moved, &recording.run);
        // The file is the same, whichever process packs it.
        let again = rr.new_dir().join("again.rrpack");
        on(&rr, &["pack", "-o", again.to_str().unwrap()], &moved).expect_success();
        let unpacked = rr.new_dir().join("unpacked");
        on(&rr, &["unpack", "-o", unpacked.to_str().unwrap()], &again).expect_success();
        fs::remove_file(&moved).unwrap();
        fs::remove_file(&again).unwrap();
        assert_eq!(said(&rr, &unpacked), before, "{name} {options:?}");
        replays(&rr, &unpacked, &recording.run);
    }
}

const CRASH: &str = r#"
#include <stdlib.h>
static int boom(int depth) { int local = depth * 3; if (depth) return boom(depth - 1) + local; abort(); }
int main(void) { return boom(3); }
"#;

#[test]
fn a_debugger_gets_its_files_out_of_the_pack() {
    if !is_installed("gdb") {
        eprintln!("skipped: there is no gdb");
        return;
    }
    let rr = Rr::new();
    let (source, program) = (rr.home().join("crash.c"), rr.home().join("crash"));
    fs::write(&source, CRASH).unwrap();
    let mut line = Command::new("gcc");
    line.args(["-g", "-O0", "-o"]).arg(&program).arg(&source);
    run(&mut line, Duration::from_secs(60)).expect_success();
    let recording = rr.record(&["--checkpoint-interval", "20e"], &words([&program]));
    let moved = pack(&rr, &recording);
    let shared = rr.new_dir();
    on(
        &rr,
        &["pack", "--pack-dir", shared.to_str().unwrap()],
        &recording.dir,
    )
    .expect_success();
    fs::remove_dir_all(&recording.dir).unwrap();
    fs::remove_file(&program).unwrap();
    for pack in [moved, shared.join("trace.rrpack")] {
        let text = on(&rr, &["backtrace"], &pack).expect_success().out();
        for part in [
            "SIGABRT",
            "boom (depth=0) at",
            "local = 9",
            "main () at",
            "crash.c:4",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}

/// A program whose debug information stands apart, as distributions ship it. Elsewhere there is none of either.
#[test]
fn debug_information_goes_along() {
    let rr = Rr::new();
    let dir = rr.new_dir();
    let (program, source) = (dir.join("apart"), dir.join("apart.c"));
    fs::write(
        &source,
        "static int depth(int *at) { return *at + 1; }\nint main(void) { return depth((int *)8); }\n",
    )
    .unwrap();
    let tool = |words: &[&OsStr]| {
        let done = run(Command::new(words[0]).args(&words[1..]), rr.limit);
        done.expect_success().out()
    };
    let build_id = "--build-id=0xab12cd34".as_ref();
    tool(&[
        "gcc".as_ref(),
        "-g".as_ref(),
        "-Xlinker".as_ref(),
        build_id,
        "-o".as_ref(),
        program.as_ref(),
        source.as_ref(),
    ]);
    let symbols = dir.join("symbols");
    fs::create_dir_all(symbols.join(".build-id/ab")).unwrap();
    let debug = symbols.join(".build-id/ab/12cd34.debug");
    tool(&[
        "objcopy".as_ref(),
        "--only-keep-debug".as_ref(),
        program.as_ref(),
        debug.as_ref(),
    ]);
    tool(&["strip".as_ref(), program.as_ref()]);
    let recording = rr.record(&[], &words([&program]));
    let packed = |name: &str, options: &[&str]| {
        let file = rr.new_dir().join(name);
        let args = [&["pack", "-o", file.to_str().unwrap()], options].concat();
        (on(&rr, &args, &recording.dir).expect_success(), file)
    };
    let (_, without) = packed("without.rrpack", &[]);
    let with = ["--with-debug", "--debug-dir", symbols.to_str().unwrap()];
    let (_, with) = packed("with.rrpack", &with);
    let shared = rr.new_dir().join("packs");
    let args = ["pack", "--pack-dir", shared.to_str().unwrap(), "--with-debug"];
    // The one that has it already needs none of this machine.
    for file in [&program, &source, &debug] {
        fs::remove_file(file).unwrap();
    }
    on(&rr, &args, &with).expect_success();

    let line = "depth (at=0x8) at";
    let frames = |trace: &Path| on(&rr, &["backtrace"], trace).expect_success().out();
    assert!(!frames(&without).contains(line), "{}", frames(&without));
    assert!(frames(&with).contains(line), "{}", frames(&with));
    let in_directory = shared.join("with.rrpack");
    assert!(frames(&in_directory).contains(line), "{}", frames(&in_directory));
    let unpacked = rr.new_dir().join("unpacked");
    on(&rr, &["unpack", "-o", unpacked.to_str().unwrap()], &with).expect_success();
    assert!(frames(&unpacked).contains(line), "{}", frames(&unpacked));
    on(&rr, &["verify"], &with).expect_success();

    // What is nowhere is counted.
    let (run, _) = packed("none.rrpack", &["--with-debug", "--debug-dir", "/nonexistent"]);
    assert!(
        run.err().contains("no debug information here for"),
        "{}",
        run.describe()
    );
}

#[test]
fn a_pack_is_refused_where_it_would_be_changed() {
    let rr = Rr::new();
    let recording = victim(&rr);
    let moved = pack(&rr, &recording);
    for command in [
        &["create-checkpoints", "-i", "10e"][..],
        &["checkpoints", "thin", "--keep", "1"],
    ] {
        let refused = on(&rr, command, &moved).expect_status(1);
        assert!(
            refused
                .err()
                .contains("a pack is never changed; unpack it (rr unpack)"),
            "{}",
            refused.describe()
        );
    }
    let listed = on(&rr, &["checkpoints"], &moved).expect_success();
    assert!(listed.out().contains(" checkpoints; "), "{}", listed.describe());
    // Existing files are not overwritten.
    let before = fs::read(&moved).unwrap();
    let refused = on(&rr, &["pack", "-o", moved.to_str().unwrap()], &recording.dir).expect_status(1);
    assert!(refused.err().contains("exists"), "{}", refused.describe());
    let to = rr.new_dir();
    on(&rr, &["unpack", "-o", to.to_str().unwrap()], &moved).expect_status(1);
    assert!(fs::read(&moved).unwrap() == before && fs::read_dir(&to).unwrap().next().is_none());
    // The word replay can be left out, as with a directory.
    let short = rr.rr([moved.as_os_str(), OsStr::new("-a")]);
    assert_eq!(short.stdout, recording.run.stdout, "{}", short.describe());
}

#[test]
fn damage_is_noticed() {
    let rr = Rr::new();
    let original = victim(&rr);
    let goto = original.info().checkpoints[1].event;
    let sound = pack(&rr, &original);
    let bytes = fs::read(&sound).unwrap();
    let length = bytes.len() as u64;
    let broken = rr.new_dir().join("broken");
    let mut random = Random::new(4711);
    let mut cuts = vec![
        0,
        1,
        7,
        8,
        12,
        71,
        72,
        100,
        4096,
        length / 2,
        length - 4096,
        length - 64,
        length - 1,
    ];
    cuts.extend((0..if full() { 100 } else { 6 }).map(|_| random.below(length)));
    for cut in cuts {
        fs::write(&broken, &bytes[..cut as usize]).unwrap();
        let what = format!("cut to {cut} of {length}");
        for command in [
            &["traceinfo"][..],
            &["replay", "-a"],
            &["verify"],
            &["unpack", "-o", "/nowhere/at/all"],
        ] {
            let run = careful(&rr, command, &broken);
            assert!(!run.status.success(), "{what}: {command:?} is content");
        }
    }
    // An extra byte behind the end.
    fs::write(&broken, [&bytes[..], b"x"].concat()).unwrap();
    careful(&rr, &["traceinfo"], &broken).expect_status(1);
    let table = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
    let entries: Vec<(u64, u64)> = bytes[table as usize..]
        .chunks_exact(64)
        .map(|entry| {
            let word = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap());
            (word(24), word(32))
        })
        .collect();
    // Damage in the header, in the table, and in every member: at its beginning, and anywhere.
    // Unpacking compares everything.
    let mut places: Vec<u64> = (0..72).step_by(if full() { 1 } else { 9 }).collect();
    places.extend((0..4).map(|_| table + random.below(length - table)));
    for (offset, len) in entries {
        places.extend([offset, offset + random.below(len)]);
    }
    let noticed = |bytes: &[u8], what: &str| {
        fs::write(&broken, bytes).unwrap();
        let to = rr.new_dir().join("to");
        let run = careful(&rr, &["unpack", "-o", to.to_str().unwrap()], &broken);
        assert!(
            !run.status.success() && !to.exists(),
            "{what}: nobody noticed\n{}",
            run.describe()
        );
    };
    for (n, place) in places.into_iter().enumerate() {
        let mut changed = bytes.clone();
        changed[place as usize] ^= 1 << random.below(8);
        let what = format!("a bit of byte {place} flipped");
        noticed(&changed, &what);
        if full() || n % 8 == 0 {
            let [.., verify] = try_everything(&rr, &what, &broken, &original, goto);
            assert!(!verify.status.success(), "{what}: verify is content");
        }
    }
}

/// Behind the last byte of a mapped file, up to the end of its page, programs see zeros.
#[test]
fn what_a_process_would_see_behind_a_mapped_file_is_checked() {
    let rr = Rr::new();
    let original = victim(&rr);
    let broken = pack(&rr, &original);
    let file = fs::File::options().read(true).write(true).open(&broken).unwrap();
    let word = |at: u64| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, at).unwrap();
        u64::from_le_bytes(word)
    };
    let (table, count) = (word(40), word(48));
    let mapped = (0..count)
        .map(|n| table + 64 * n)
        .filter(|at| word(*at) as u32 == 3 && word(at + 32) % 4096 != 0);
    let ends: Vec<u64> = mapped.map(|at| word(at + 24) + word(at + 32)).collect();
    assert!(!ends.is_empty());
    for end in ends {
        file.write_all_at(b"x", end).unwrap();
    }
    let run = on(&rr, &["replay", "-a"], &broken);
    assert!(
        !run.status.success() && run.err().contains("something after the last byte"),
        "{}",
        run.describe()
    );
}

#[test]
fn checkpoints_go_before_anything_else_when_there_is_no_room() {
    let rr = Rr::new();
    let program =
        shell("i=0; while [ $i -lt 40 ]; do i=$((i+1)); x=\"$x$i$i$i$i$i$i$i$i\"; /bin/true; done; echo $i");
    let recording = rr.record(&["--checkpoint-interval", "50e", "--checkpoint-wait"], &program);
    let all = recording.info().checkpoints.len();
    assert!(all > 10, "{all} checkpoints");
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    let dir = rr.new_dir();
    let whole = pack(&rr, &recording);
    let make = |max: u64| {
        let path = dir.join(max.to_string());
        let args = [
            "pack",
            "--max-size",
            &max.to_string(),
            "-o",
            path.to_str().unwrap(),
        ];
        (on(&rr, &args, &recording.dir), path)
    };
    let (run, none) = make(size(&whole));
    assert!(!run.err().contains("no room"), "{}", run.describe());
    assert_eq!(fs::read(&none).unwrap(), fs::read(&whole).unwrap());
    // A budget of half the checkpoints' size, then less and less, until it is too small for the rest of
    // the trace.
    let mut less = size(&whole);
    let mut fewest = all;
    let least: u64 = loop {
        less -= 60_000;
        let (run, path) = make(less);
        if !run.status.success() {
            assert!(
                run.err().contains("events and mapped files alone take"),
                "{}",
                run.describe()
            );
            assert!(!path.exists());
            let err = run.err();
            let least = err
                .split("alone take ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            break least
                .and_then(|bytes| bytes.parse().ok())
                .expect("a number of bytes");
        }
        assert!(size(&path) <= less);
        assert!(run.err().contains("no room for "), "{}", run.describe());
        let left = checkpoints(&rr, &path).len();
        assert!(left < fewest || left == 0, "{left} of {fewest}");
        if fewest == all || left == 0 {
            on(&rr, &["verify"], &path).expect_success();
            let replay = on(&rr, &["replay", "-a"], &path).expect_success();
            assert_eq!(replay.stdout, recording.run.stdout);
        }
        fewest = left;
    };
    // All checkpoints are removed before it fails.
    let (run, path) = make(least);
    run.expect_success();
    assert_eq!(checkpoints(&rr, &path).len(), 0);
    assert!(!make(least - 1).0.status.success());
    // Only complete files are there.
    let left = fs::read_dir(&dir).unwrap().filter(|e| {
        let name = e.as_ref().unwrap().file_name();
        name.to_str().unwrap().parse::<u64>().is_err()
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn a_full_disk_and_an_interrupt_leave_nothing() {
    let rr = Rr::new();
    let recording = victim(&rr);
    let names = |dir: &Path| {
        fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    let dir = rr.new_dir();
    if let Some(_mounted) = Tmpfs::mount(&dir, "300k") {
        for args in [["pack", "-o"], ["pack", "--pack-dir"]] {
            let args = [args[0], args[1], dir.join("it").to_str().unwrap()].map(str::to_owned);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let run = on(&rr, &args, &recording.dir).expect_status(1);
            assert!(
                run.err().contains("No space left on device"),
                "{}",
                run.describe()
            );
            assert!(run.err().contains("nothing is left of it"), "{}", run.describe());
        }
        let objects = dir.join("it/objects");
        let whole = |name: &OsString| !name.to_str().unwrap().starts_with('.');
        assert!(names(&objects).iter().all(whole), "{:?}", names(&objects));
        fs::remove_dir_all(dir.join("it")).unwrap();
        assert!(names(&dir).is_empty(), "{:?}", names(&dir));
    }
    let dir = rr.new_dir();
    let mut stopped = 0;
    for wait in [0, 5, 20, 60] {
        let target = dir.join("stopped");
        let mut command = rr.command([
            "pack".as_ref(),
            "-o".as_ref(),
            target.as_os_str(),
            recording.dir.as_os_str(),
        ]);
        let started = start(&mut command);
        std::thread::sleep(Duration::from_millis(wait));
        started.signal(nix::sys::signal::Signal::SIGINT);
        let run = started.finish(rr.limit);
        match run.shell_status() {
            0 => fs::remove_file(&target).unwrap(),
            // This also counts signals that came before rr had its handlers.
            130 => stopped += 1,
            _ => panic!("{}", run.describe()),
        }
        assert!(names(&dir).is_empty(), "{:?}", names(&dir));
    }
    assert!(stopped > 0);
}

#[test]
fn secrets_are_named_and_not_shown() {
    let rr = Rr::new();
    let dir = rr.new_trace();
    let mut command = rr.record_command(&[], &dir, rr.home(), &shell("exit 0"));
    command.env("A_TOKEN", "xyzzy").env("PLAIN", "plugh");
    run(&mut command, rr.limit).expect_success();
    let out = |name: &str| rr.home().join(name).to_str().unwrap().to_owned();
    let told = on(&rr, &["pack", "-o", &out("one")], &dir).expect_success();
    assert!(
        told.err().contains("look like secrets: A_TOKEN"),
        "{}",
        told.describe()
    );
    assert!(!(told.err() + &told.out()).contains("xyzzy"));
    let told = on(&rr, &["pack", "--secret-names", "lain", "-o", &out("two")], &dir).expect_success();
    assert!(
        told.err().contains("look like secrets: PLAIN"),
        "{}",
        told.describe()
    );
    let told = on(
        &rr,
        &["pack", "--secret-names", "none", "-o", &out("three")],
        &dir,
    )
    .expect_success();
    assert_eq!(told.err(), "");
}

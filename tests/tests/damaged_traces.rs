//! Broken, foreign and hostile traces.
//!
//! rr promises a clear message on standard error, the documented exit status, no panic, bounded memory
//! (commands run under a limit of address space), and never a plausible but wrong answer.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rr_tests::damage::{careful, copy_of, files, try_everything, victim};
use rr_tests::programs::Random;
use rr_tests::{Rr, Run, full};

/// Damage to the file `name` must be noticed by a command that reads all of it: in a segment by a
/// replay, in a checkpoint by `rr verify`.
#[track_caller]
fn expect_noticed(what: &str, name: &Path, replay: &Run, verify: &Run) {
    if name.extension().is_some_and(|e| e == "seg") {
        let noticed = !replay.status.success() || replay.err().contains("incomplete");
        assert!(noticed, "{what}: nobody noticed\n{}", replay.describe());
    }
    if name.extension().is_some_and(|e| e == "ckpt") {
        expect_refused(what, verify);
    }
}

/// Checks that `rr verify` has failed.
#[track_caller]
fn expect_refused(what: &str, verify: &Run) {
    assert!(
        !verify.status.success(),
        "{what}: verify is content\n{}",
        verify.describe()
    );
}

#[test]
fn truncated_files() {
    let rr = Rr::new();
    let original = victim(&rr);
    let goto = original.info().checkpoints[1].event;
    for file in files(&original.dir) {
        let name = file.strip_prefix(&original.dir).unwrap().to_owned();
        let length = fs::metadata(&file).unwrap().len();
        let mut cuts = vec![0, 1, 11, 40, length / 2, length.saturating_sub(1)];
        if full() {
            cuts.extend([
                8,
                16,
                17,
                63,
                64,
                128,
                length / 3,
                length / 4 * 3,
                length.saturating_sub(9),
            ]);
        }
        if name.starts_with("files") {
            cuts = vec![0, length / 2];
        }
        cuts.retain(|&cut| cut < length);
        cuts.dedup();
        for cut in cuts {
            let dir = copy_of(&rr, &original.dir);
            fs::OpenOptions::new()
                .write(true)
                .open(dir.join(&name))
                .unwrap()
                .set_len(cut)
                .unwrap();
            let what = format!("{} cut to {cut} of {length}", name.display());
            let [_, replay, _, verify] = try_everything(&rr, &what, &dir, &original, goto);
            expect_noticed(&what, &name, &replay, &verify);
            fs::remove_dir_all(dir).unwrap();
        }
    }
}

#[test]
fn flipped_bits() {
    let rr = Rr::new();
    let original = victim(&rr);
    let goto = original.info().checkpoints[1].event;
    let mut random = Random::new(20_260_801);
    for file in files(&original.dir) {
        let name = file.strip_prefix(&original.dir).unwrap().to_owned();
        let bytes = fs::read(&file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let flips = if full() { 40 } else { 4 };
        let rounds = if name.starts_with("files") {
            flips / 4
        } else {
            flips
        };
        for round in 0..rounds {
            // The first half of the rounds damages the fixed headers, where every field matters.
            let range = if round % 2 == 0 {
                bytes.len().min(160)
            } else {
                bytes.len()
            } as u64;
            let (at, bit) = (random.below(range) as usize, random.below(8));
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let dir = copy_of(&rr, &original.dir);
            fs::write(dir.join(&name), &changed).unwrap();
            let what = format!("{}: bit {bit} of byte {at} flipped", name.display());
            let [_, replay, _, verify] = try_everything(&rr, &what, &dir, &original, goto);
            expect_noticed(&what, &name, &replay, &verify);
            fs::remove_dir_all(dir).unwrap();
        }
    }
}

/// Lengths of nearly 2^64 in every aligned word of the fixed headers must not cause an allocation.
#[test]
fn absurd_lengths() {
    let rr = Rr::new();
    let original = victim(&rr);
    let goto = original.info().checkpoints[1].event;
    let mut seen = std::collections::BTreeSet::new();
    for file in files(&original.dir) {
        let name = file.strip_prefix(&original.dir).unwrap().to_owned();
        if name.starts_with("files") || !seen.insert(name.extension().map(OsString::from)) {
            continue; // one file of each kind
        }
        let bytes = fs::read(&file).unwrap();
        let step = if full() { 8 } else { 40 };
        for at in (16..bytes.len().saturating_sub(8).min(200)).step_by(step) {
            let mut changed = bytes.clone();
            changed[at..at + 8].copy_from_slice(&(1u64 << 63 | 5).to_le_bytes());
            let dir = copy_of(&rr, &original.dir);
            fs::write(dir.join(&name), &changed).unwrap();
            try_everything(
                &rr,
                &format!("{}: 2^63 at {at}", name.display()),
                &dir,
                &original,
                goto,
            );
            fs::remove_dir_all(dir).unwrap();
        }
    }
}

/// A later format version (in bytes 8 to 12 of all our files) gets a message that names the version.
#[test]
fn future_versions() {
    let rr = Rr::new();
    let original = victim(&rr);
    let goto = original.info().checkpoints[1].event;
    let last = files(&original.dir)
        .into_iter()
        .rfind(|f| f.extension().is_some_and(|e| e == "ckpt"))
        .unwrap();
    let segment = files(&original.dir)
        .into_iter()
        .find(|f| f.extension().is_some_and(|e| e == "seg"))
        .unwrap();
    for file in [original.dir.join("header"), segment, last] {
        let name = file.strip_prefix(&original.dir).unwrap().to_owned();
        let mut bytes = fs::read(&file).unwrap();
        bytes[8..12].copy_from_slice(&4711u32.to_le_bytes());
        let dir = copy_of(&rr, &original.dir);
        fs::write(dir.join(&name), bytes).unwrap();
        let what = format!("{} of version 4711", name.display());
        let [_, replay, _, verify] = try_everything(&rr, &what, &dir, &original, goto);
        expect_refused(&what, &verify);
        let err = if name.extension().is_some_and(|e| e == "ckpt") {
            verify.err()
        } else {
            replay.err()
        };
        assert!(
            err.contains("4711") && (err.contains("version") || err.contains("newer")),
            "{what}: the message does not say so: {err}"
        );
    }
}

#[test]
fn checkpoint_of_another_trace() {
    let rr = Rr::new();
    let original = victim(&rr);
    let other = victim(&rr);
    let checkpoints: Vec<PathBuf> = files(&original.dir)
        .into_iter()
        .filter(|f| f.extension().is_some_and(|e| e == "ckpt"))
        .collect();
    let mut tried = 0;
    for file in checkpoints {
        let name = file.strip_prefix(&original.dir).unwrap().to_owned();
        let foreign = other.dir.join(&name);
        if !foreign.exists() {
            continue;
        }
        let dir = copy_of(&rr, &original.dir);
        fs::copy(foreign, dir.join(&name)).unwrap();
        let event: u64 = name
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .expect("named by its event");
        let what = format!("{} of another trace", name.display());
        let [_, _, from, verify] = try_everything(&rr, &what, &dir, &original, event);
        expect_refused(&what, &verify);
        assert!(
            !from.stderr.is_empty(),
            "{what}: replay -g says nothing\n{}",
            from.describe()
        );
        tried += 1;
    }
    assert!(
        tried > 0,
        "two recordings of the same script have no checkpoint event in common"
    );
}

#[test]
fn missing_parts() {
    let rr = Rr::new();
    let original = victim(&rr);
    let goto = original.info().checkpoints[1].event;
    for name in ["header", "segments", "files", "checkpoints"] {
        let dir = copy_of(&rr, &original.dir);
        let path = dir.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        let [info, replay, _, _] = try_everything(&rr, &format!("without {name}"), &dir, &original, goto);
        match name {
            "header" => assert!(!info.status.success() && !replay.status.success()),
            "checkpoints" => assert!(replay.status.success(), "{}", replay.describe()),
            "files" => assert!(!replay.status.success(), "{}", replay.describe()),
            _ => {}
        }
    }
    let empty = rr.new_dir();
    for command in [
        &["traceinfo"][..],
        &["replay", "-a"],
        &["verify"],
        &["dump"],
        &["ps"],
    ] {
        assert_ne!(
            careful(&rr, command, &empty).shell_status(),
            0,
            "{command:?} on an empty directory"
        );
        assert_ne!(
            careful(&rr, command, Path::new("/etc/passwd")).shell_status(),
            0,
            "{command:?} on a file"
        );
    }
}

/// One process verifies neighbouring stretches and keeps blocks for all of them. A fault of one stretch
/// must not hide a fault of another, and must not be blamed on another.
#[test]
fn a_bad_stretch_hides_no_other() {
    let rr = Rr::new();
    let guest = rr_tests::Guest::build("fork_many").path;
    let options = ["--checkpoint-interval", "10e", "--checkpoint-wait"];
    let recording = rr.record(&options, &rr_tests::rr::words([guest]));
    let checkpoints: Vec<u64> = recording.info().checkpoints.iter().map(|c| c.event).collect();
    let stretches = checkpoints.len() + 1;
    assert!(stretches >= 12, "runs of several stretches: {checkpoints:?}");
    for victim in [checkpoints.len() / 2, checkpoints.len() - 3] {
        let path = recording
            .dir
            .join(format!("checkpoints/{:016}.ckpt", checkpoints[victim]));
        let mut bytes = fs::read(&path).unwrap();
        bytes[160] ^= 1; // its first block begins here
        fs::write(&path, bytes).unwrap();
    }
    let mut expected = String::new();
    let mut bad = 0;
    for from in [0].iter().chain(&checkpoints) {
        let one = careful(&rr, &["verify", "--from", &from.to_string()], &recording.dir);
        if !one.status.success() {
            bad += 1;
            expected += &one.err();
        }
    }
    assert!((4..stretches).contains(&bad), "{bad} of {stretches}:\n{expected}");
    expected += &format!("rr: {bad} of {stretches} stretches are not what was recorded\n");
    let all = careful(&rr, &["verify", "-j", "1"], &recording.dir);
    assert_eq!(all.err(), expected);
    assert_ne!(all.shell_status(), 0);
}

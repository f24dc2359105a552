//! `rr pack --pack-dir`: packs of one directory share their files, and what none of them needs goes.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

use rr_tests::programs::shell;
use rr_tests::rr::words;
use rr_tests::{Recording, Rr, full};

use crate::pack::{on, pack};

#[test]
fn packs_of_one_directory_share_their_files() {
    let rr = Rr::new();
    let dir = rr.new_dir().join("packs");
    let count = if full() { 100 } else { 12 };
    let recordings: Vec<Recording<'_>> = (0..count)
        .map(|n| rr.record(&[], &shell(&format!("echo test {n}; /bin/true; exit {n}"))))
        .collect();
    let alone = fs::metadata(pack(&rr, &recordings[0])).unwrap().len();
    let mut args: Vec<OsString> = vec!["pack".into(), "--pack-dir".into(), dir.clone().into()];
    args.extend(recordings.iter().map(|r| r.dir.clone().into_os_string()));
    rr.rr(&args).expect_success();
    // The second time nothing is added.
    let again = rr.rr(&args).expect_success();
    assert_eq!(
        again.out().matches("is there already").count(),
        count,
        "{}",
        again.describe()
    );
    let bytes: u64 = rr_tests::damage::files(&dir)
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(bytes <= 3 * alone, "{bytes} bytes for {count}, {alone} for one");
    // The packs can be moved together.
    let moved = rr.new_dir().join("elsewhere");
    fs::rename(&dir, &moved).unwrap();
    for recording in recordings.iter().take(3) {
        fs::remove_dir_all(&recording.dir).unwrap();
    }
    let pack_of = |n: usize| match n {
        0 => moved.join("trace.rrpack"),
        n => moved.join(format!("trace-{n}.rrpack")),
    };
    for (n, recording) in recordings.iter().enumerate().take(3) {
        let replay = on(&rr, &["replay", "-a"], &pack_of(n)).expect_success();
        assert_eq!(replay.stdout, recording.run.stdout, "{}", replay.describe());
    }
    let unpacked = rr.new_dir().join("unpacked");
    on(&rr, &["unpack", "-o", unpacked.to_str().unwrap()], &pack_of(1)).expect_success();
    let replay = on(&rr, &["replay", "-a"], &unpacked).expect_success();
    assert_eq!(replay.stdout, b"test 1\n");
    // A pack without the shared directory names the missing file.
    let lonely = rr.new_dir().join("lonely.rrpack");
    fs::copy(pack_of(2), &lonely).unwrap();
    let run = on(&rr, &["replay", "-a"], &lonely);
    assert!(
        !run.status.success() && run.err().contains("/objects/"),
        "{}",
        run.describe()
    );
    // Exchanged files are noticed: mapped files, and the common dictionary of events.
    let objects = rr_tests::damage::files(&moved.join("objects"));
    let (common, mapped): (Vec<PathBuf>, Vec<PathBuf>) = objects
        .into_iter()
        .partition(|path| path.extension().is_some_and(|e| e == "dict"));
    assert_eq!(common.len(), 1);
    for (group, why) in [
        (mapped, "do not match their checksum"),
        (common, "do not match the name"),
    ] {
        for object in group {
            fs::remove_file(&object).unwrap();
            fs::write(&object, b"something else").unwrap();
        }
        let run = on(&rr, &["replay", "-a"], &pack_of(0));
        assert!(
            !run.status.success() && run.err().contains(why),
            "{}",
            run.describe()
        );
    }
}

#[test]
fn what_no_pack_shares_any_more_goes_with_the_last_one() {
    let rr = Rr::new();
    let dir = rr.new_dir().join("packs");
    let (first, second) = (rr.record(&[], &shell("exit 0")), rr.record(&[], &words(["true"])));
    let pack_all = [
        "pack".into(),
        "--pack-dir".into(),
        dir.clone().into_os_string(),
        first.dir.clone().into(),
        second.dir.clone().into(),
    ];
    rr.rr(&pack_all).expect_success();
    let objects = || rr_tests::damage::files(&dir.join("objects")).len();
    let packs: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(OsStr::new("rrpack")))
        .collect();
    assert_eq!(packs.len(), 2);
    let all = objects();

    // Beside a pack that cannot be read everything stays.
    let damaged = dir.join("damaged.rrpack");
    fs::write(&damaged, "rr-pack\nnonsense").unwrap();
    let copy = dir.join("copy.rrpack");
    fs::copy(&packs[0], &copy).unwrap();
    let run = on(&rr, &["rm"], &copy).expect_success();
    assert!(run.err().contains("is kept"), "{}", run.describe());
    assert_eq!(objects(), all);
    fs::remove_file(&damaged).unwrap();

    on(&rr, &["rm"], &packs[0]).expect_success();
    assert!(objects() < all && objects() > 0, "{} of {all}", objects());
    on(&rr, &["replay", "-a"], &packs[1]).expect_success();
    on(&rr, &["rm"], &packs[1]).expect_success();
    assert_eq!(objects(), 0);
}

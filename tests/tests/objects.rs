//! Shared memory objects that are files of the trace: their cost, and the effect of a damaged trace.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rr_tests::damage::{careful, copy_of};
use rr_tests::rr::words;
use rr_tests::{Guest, Rr};

/// Length of the guest's file in bytes.
const LENGTH: u64 = 32 << 20;

#[test]
fn a_large_file_that_nobody_changes_is_not_in_checkpoints() {
    let rr = Rr::new();
    let guest = Guest::build("shared_large");
    let recording = rr.record(
        // Every call is an event: checkpoints up to just before the end.
        &["-n", "--checkpoint-interval", "5e", "--checkpoint-wait"],
        &[guest.path.into_os_string()],
    );
    assert_eq!(recording.run.shell_status(), 0, "{}", recording.run.describe());
    let info = recording.info();
    assert!(info.checkpoints.len() > 5);
    for checkpoint in &info.checkpoints {
        assert!(
            checkpoint.pages_scanned < LENGTH / 4096 / 4,
            "the file was read: {checkpoint:?}"
        );
    }
    recording.verify();

    let last = info.checkpoints.last().unwrap().event.to_string();
    let file = fs::read_dir(recording.dir.join("files"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| entry.metadata().unwrap().len() == LENGTH)
        .expect("the file is in the trace");
    let name = file.file_name().into_string().unwrap();
    let from_last = ["replay", "-a", "-g", &last];

    let dir = copy_of(&rr, &recording.dir);
    assert_eq!(
        careful(&rr, &from_last, &dir).expect_success().stdout,
        recording.run.stdout
    );
    fs::remove_file(dir.join("files").join(&name)).unwrap();
    for args in [&from_last[..], &["replay", "-a"]] {
        let run = careful(&rr, args, &dir);
        assert!(
            !run.status.success() && run.err().contains(&name),
            "{}",
            run.describe()
        );
    }

    // A file with another length is an error, neither zeros nor SIGBUS.
    fs::copy(file.path(), dir.join("files").join(&name)).unwrap();
    let damaged = dir.join("files").join(&name);
    fs::set_permissions(&damaged, fs::Permissions::from_mode(0o600)).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&damaged)
        .unwrap()
        .set_len(LENGTH - 4096)
        .unwrap();
    for args in [&from_last[..], &["replay", "-a"], &["verify"]] {
        let run = careful(&rr, args, &dir);
        let said = run.err().contains(&name) && run.err().contains("damaged");
        assert!(!run.status.success() && said, "{}", run.describe());
    }
}

/// From the third program on, calls at the places of the first two are buffered, except the `mprotect` that makes a shared mapping
/// writable: private mappings of the same file change from that call on.
#[test]
fn a_shared_mapping_becomes_writable_at_an_event() {
    let rr = Rr::new();
    let guest = Guest::build("private_and_shared");
    let program = rr.reachable(&guest.path);
    let four = format!("for i in 1 2 3 4; do {} || exit 1; done", program.display());
    let recording = rr.record(
        &["--checkpoint-interval", "50e", "--checkpoint-wait"],
        &words(["sh", "-c", &four]),
    );
    assert!(recording.run.status.success(), "{}", recording.run.describe());
    let replay = recording.replay(&[]).expect_success();
    assert_eq!(replay.out(), recording.run.out());
    recording.verify();
}

//! Checkpoints that cannot be written or used: the recording goes on, an earlier checkpoint is used,
//! and rr prints one line.

use std::fs;
use std::sync::Arc;

use rr_replayer::position::Position;
use rr_replayer::timeline::{Setup, Timeline};
use rr_replayer::{Never, cpu_for_replay};
use rr_tests::damage::Tmpfs;
use rr_tests::programs::shell;
use rr_tests::{Guest, Recording, Rr, run};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_tracee::Tid;
use rr_tracee::cpus::Cpus;

/// Many short processes: some hundreds of events in a second.
const SCRIPT: &str = "for i in 1 2 3 4 5 6 7 8 9; do /bin/true; echo $i; done";

fn events(recording: &Recording<'_>) -> Vec<u64> {
    recording.info().checkpoints.iter().map(|c| c.event).collect()
}

/// Flips a bit of the first block of each of these checkpoints.
fn damage_blocks(recording: &Recording<'_>, events: &[u64]) {
    for event in events {
        let path = recording.dir.join(format!("checkpoints/{event:016}.ckpt"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[160] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
}

/// The lines about checkpoints that cannot be used.
fn said(err: &str) -> Vec<&str> {
    err.lines()
        .filter(|line| line.contains("cannot be used"))
        .collect()
}

#[test]
fn a_damaged_block_is_passed_by_everybody() {
    let rr = Rr::new();
    let options = ["-n", "--checkpoint-interval", "60e", "--checkpoint-wait"];
    let recording = rr.record(&options, &shell(SCRIPT));
    let all = events(&recording);
    assert!(all.len() >= 5, "{all:?}");
    // The last two: no other checkpoint refers to them.
    let n = all.len();
    let (good, bad) = (all[n - 3], &all[n - 2..]);
    damage_blocks(&recording, bad);
    let last = recording.info().events;
    let whole = recording.replay(&[]).expect_success();

    let goal = last.to_string();
    let replay = recording
        .replay(&["-v", "-g", &goal, "--until", &goal])
        .expect_success();
    let text = replay.describe();
    assert!(
        replay
            .err()
            .contains(&format!("from the checkpoint at event {good} ")),
        "{text}"
    );
    let lines = replay.err();
    let lines = said(&lines);
    assert_eq!(lines.len(), 2, "{text}");
    for (line, event) in lines.iter().zip(bad.iter().rev()) {
        assert!(
            line.contains(&format!("the checkpoint at event {event} cannot be used: ")),
            "{text}"
        );
    }
    assert!(whole.out().ends_with(&replay.out()), "{text}");

    // A debugger's timeline goes there, and back.
    let reader = Arc::new(TraceReader::open(&recording.dir).unwrap());
    let cpus = Cpus::survey();
    let mut timeline = Timeline::new(Setup {
        cpu: Some(cpu_for_replay(&cpus, &reader)),
        process: Tid(0),
        begin: EventNumber(1),
        show: Box::new(|_, _| {}),
        reader,
    })
    .unwrap();
    for event in [last - 1, bad[0] - 1, last - 1, bad[1] + 1] {
        assert!(
            timeline
                .seek(&Position::at_event(EventNumber(event)), &mut Never)
                .unwrap()
        );
        assert_eq!(timeline.session().last_event(), EventNumber(event));
    }
    assert!(
        bad.iter()
            .all(|event| !timeline.stored().contains(&EventNumber(*event)))
    );
    drop(timeline);

    // Another checkpoint can be made there.
    let event = (last - 1).to_string();
    let mut command = rr.command(["create-checkpoints", "-s", &event, "-e", &event]);
    let made = run(command.arg(&recording.dir), rr.limit).expect_success();
    assert_eq!(said(&made.err()).len(), 2, "{}", made.describe());
    let replay = recording.replay(&["-v", "-g", &event]).expect_success();
    assert!(said(&replay.err()).is_empty(), "{}", replay.describe());

    // Without a usable checkpoint, replay starts at the beginning.
    damage_blocks(&recording, &all[..n - 2]);
    let goal = all[n - 1].to_string();
    let replay = recording.replay(&["-v", "-g", &goal]).expect_success();
    assert!(
        replay.err().contains("starts from the beginning"),
        "{}",
        replay.describe()
    );
    assert!(whole.out().ends_with(&replay.out()) && said(&replay.err()).len() == n);
}

/// The guest's memory is larger than the disk, and its events are few.
#[test]
fn a_disk_without_room_for_checkpoints_has_room_for_events() {
    let rr = Rr::new();
    let place = rr.new_dir();
    let Some(_tmpfs) = Tmpfs::mount(&place, "24m") else {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    };
    let dir = place.join("trace");
    let program = Guest::build("noisy_rss");
    let mut command = rr.command([
        "record",
        "--checkpoint-interval",
        "100ms",
        "--checkpoint-budget",
        "1G",
        "-o",
    ]);
    command.arg(&dir).arg(&program.path);
    let recorded = run(&mut command, rr.limit).expect_success();
    let err = recorded.err();
    assert_eq!(
        err.matches("No space left on device").count(),
        1,
        "{}",
        recorded.describe()
    );
    assert!(err.lines().count() <= 3, "{}", recorded.describe());
    let recording = rr.recording_from(dir, recorded);
    assert!(recording.info().complete);
    let left: Vec<_> = fs::read_dir(recording.dir.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().starts_with('.')),
        "{left:?}"
    );
    let replay = recording.replay(&[]).expect_success();
    assert_eq!(replay.out(), recording.run.out());
    recording.verify();
}

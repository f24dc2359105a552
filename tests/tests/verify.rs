//! `rr verify` names the difference, so that people can find the cause. All CPUs together give the same
//! answer as one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rr_checkpoint::{CheckpointWriter, Options};
use rr_replayer::ReplaySession;
use rr_replayer::diversion::Diversion;
use rr_tests::gdb::{Debugged, Program};
use rr_tests::rr::words;
use rr_tests::{Guest, Rr, Run, run};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_tracee::{Addr, Backing, Mapping, Tid};
use serde_json::Value;

/// Address of a symbol in an executable's own numbering.
fn place_of(program: &Path, symbol: &str) -> u64 {
    let listed = Command::new("nm").arg(program).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let line = text.lines().find(|line| line.ends_with(&format!(" {symbol}")));
    u64::from_str_radix(line.unwrap().split(' ').next().unwrap(), 16).unwrap()
}

/// Stores a wrong checkpoint at an event. `change` gets the mappings of the event's task, and returns
/// the bytes to add, with their addresses.
fn store_wrong(trace: &Path, event: u64, change: impl Fn(&[Mapping]) -> Vec<(Addr, Vec<u8>)>) {
    let reader = Arc::new(TraceReader::open(trace).unwrap());
    let cpu = reader.header().bound_cpu.map(|cpu| cpu as usize);
    let mut session = ReplaySession::start(Arc::clone(&reader), cpu).unwrap();
    let mut tid = Tid(0);
    while session.last_event() < EventNumber(event) {
        tid = session.step().unwrap().unwrap().event.tid;
    }
    let mappings: Vec<Mapping> = session.space_of(tid).unwrap().iter().cloned().collect();
    let mut diversion = Diversion::new(session, tid).unwrap();
    for (addr, added) in change(&mappings) {
        let mut bytes = vec![0; added.len()];
        assert_eq!(
            diversion.session().read_memory(tid, addr, &mut bytes),
            added.len()
        );
        let sum: Vec<u8> = bytes
            .iter()
            .zip(&added)
            .map(|(a, b)| a.wrapping_add(*b))
            .collect();
        diversion.write_memory(tid, addr, &sum).unwrap();
    }
    let request = diversion.session().capture().unwrap();
    let dir = reader.checkpoint_dir().unwrap();
    let mut writer = CheckpointWriter::start(dir, reader.header().uuid, Options::default()).unwrap();
    assert!(writer.submit(request));
    let outcomes = writer.finish().unwrap().outcomes;
    assert!(
        outcomes.iter().all(|outcome| outcome.result.is_ok()),
        "{outcomes:?}"
    );
}

fn named<'a>(mappings: &'a [Mapping], name: &str) -> &'a Mapping {
    let found = mappings.iter().find(|m| &*m.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {mappings:#?}"))
}

#[track_caller]
fn verify(rr: &Rr, options: &[&str], dir: &Path) -> Run {
    let mut command = rr.command(["verify"]);
    run(command.args(options).arg(dir), rr.limit)
}

fn json(run: &Run) -> Value {
    serde_json::from_slice(&run.stdout).unwrap_or_else(|e| panic!("{e}\n{}", run.describe()))
}

/// Events of a trace with good checkpoints at the first and last, and a wrong one between them.
const EVENTS: [u64; 3] = [20, 30, 40];

#[test]
fn a_page_that_differs_is_named() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &["-n"], &Program::c("walk"));
    for event in [EVENTS[0], EVENTS[2]].map(|event| event.to_string()) {
        let mut command = rr.command(["create-checkpoints", "-s", &event, "-e", &event]);
        run(command.arg(&walk.dir), rr.limit).expect_success();
    }
    let program = walk.program.path().to_str().unwrap().to_owned();
    let total = place_of(walk.program.path(), "total");
    store_wrong(&walk.dir, EVENTS[1], |mappings| {
        let base = mappings
            .iter()
            .find(|m| matches!(m.backing, Backing::File { offset: 0, .. }) && *m.name == *program);
        let stack = named(mappings, "[stack]");
        vec![
            (base.unwrap().range.start + total, vec![0x11, 0x22]),
            (Addr(stack.range.end.0 - 0x1008), vec![0x33]),
            (Addr(stack.range.end.0 - 0x2008), vec![0x44]),
        ]
    });

    let at = |n: usize| EVENTS[n].to_string();
    let good = verify(&rr, &["--checkpoint", &at(0)], &walk.dir).expect_success();
    let expected = "from the start to the checkpoint at event 20: image and pages identical\n";
    assert_eq!(good.out(), expected);
    let bad = verify(&rr, &["--checkpoint", &at(1)], &walk.dir).expect_status(1);
    let text = bad.err();
    for expected in [
        "rr: from the checkpoint at event 20 to the checkpoint at event 30: the replay is not what was recorded\n",
        &format!("{program}, offset 0x"),
        &format!("\n    in total ({program})\n"),
        "\n    recorded 0x",
        "\n    replayed 0x",
        " [stack]: byte at 0x",
        " (1 bytes of the page differ)\n",
        "\n  3 pages differ\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    // Lines of bytes at the same address, for both sides: they differ in the two changed bytes.
    let row = |what: &str| {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(what))
            .unwrap();
        let (addr, bytes) = line
            .trim_start()
            .strip_prefix(what)
            .unwrap()
            .split_once(": ")
            .unwrap();
        let bytes = bytes.split("  |").next().unwrap().trim().to_owned();
        let bytes: Vec<u8> = bytes
            .split(' ')
            .map(|b| u8::from_str_radix(b, 16).unwrap())
            .collect();
        (addr.trim().to_owned(), bytes)
    };
    let (recorded, replayed) = (row("recorded"), row("replayed"));
    assert_eq!((recorded.1.len(), &recorded.0), (16, &replayed.0));
    let changed = recorded.1.iter().zip(&replayed.1);
    let changed: Vec<u8> = changed
        .map(|(a, b)| a.wrapping_sub(*b))
        .filter(|d| *d != 0)
        .collect();
    assert_eq!(changed, [0x11, 0x22], "{text}");

    // JSON contains everything. The stretch that starts from the wrong checkpoint is wrong, too.
    let all = verify(&rr, &["--json"], &walk.dir).expect_status(1);
    let value = json(&all);
    assert_eq!(
        (&value["identical"], &value["complete"]),
        (&false.into(), &true.into())
    );
    let stretches = value["stretches"].as_array().unwrap();
    let from: Vec<_> = stretches.iter().map(|s| s["from"].as_u64().unwrap()).collect();
    assert_eq!(from, [0, 20, 30, 40]);
    let verdicts: Vec<_> = stretches.iter().map(|s| s["verdict"].as_str().unwrap()).collect();
    assert_eq!(
        (verdicts[0], verdicts[1], verdicts[3]),
        ("identical", "differs", "identical")
    );
    assert_ne!(verdicts[2], "identical");
    let differences = &stretches[1]["differences"];
    assert_eq!(differences["pagesDiffering"], 3, "{}", all.describe());
    assert_eq!(differences["image"], Value::Array(vec![]));
    let first = &differences["firstPages"][0];
    assert_eq!(first["symbol"], format!("total ({program})"));
    assert_eq!(first["bytesDiffering"], 2);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(first["recorded"], hex(&recorded.1));
    assert_eq!(first["replayed"], hex(&replayed.1));
    assert!(
        differences["firstPages"][1]["mapping"]
            .as_str()
            .unwrap()
            .ends_with("[stack]")
    );
    assert!(
        all.err()
            .ends_with("rr: 2 of 4 stretches are not what was recorded\n"),
        "{}",
        all.err()
    );

    // A replay that cannot reach the end of its stretch.
    let damaged = walk.dir.join(format!("checkpoints/{:016}.ckpt", EVENTS[2]));
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[160] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let value = json(&verify(&rr, &["--json", "--from", &at(2)], &walk.dir).expect_status(1));
    let only = &value["stretches"].as_array().unwrap()[..];
    assert_eq!((only.len(), &only[0]["verdict"]), (1, &"failed".into()));
    assert!(
        only[0]["error"]
            .as_str()
            .unwrap()
            .contains("checksum of a page block"),
        "{value}"
    );

    let none = verify(&rr, &["--checkpoint", "21"], &walk.dir).expect_status(1);
    assert!(
        none.err().contains("there is no checkpoint at event 21"),
        "{}",
        none.err()
    );
    let both = verify(&rr, &["--checkpoint", "20", "--from", "20"], &walk.dir);
    assert_ne!(both.shell_status(), 0, "{}", both.describe());
}

/// One CPU and all CPUs give the same answer, even if a program reads the number of its CPU all the
/// time.
#[test]
fn all_cpus_and_one_agree() {
    let rr = Rr::new();
    for name in ["fork_tree", "cpuid", "rdpid", "threads"] {
        let options = ["-n", "--checkpoint-interval", "10e", "--checkpoint-wait"];
        let recording = rr.record(&options, &words([Guest::build(name).path]));
        let one = verify(&rr, &["-j", "1"], &recording.dir).expect_success();
        let all = verify(&rr, &[], &recording.dir).expect_success();
        assert_eq!(one.out(), all.out());
        let value = json(&verify(&rr, &["--json"], &recording.dir).expect_success());
        assert_eq!(value["identical"], true);
        let count = recording.info().checkpoints.len();
        assert_eq!(value["stretches"].as_array().unwrap().len(), count + 1);
    }
}

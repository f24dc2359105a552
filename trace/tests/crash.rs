//! A recorder that is killed, and a disk that is full: what was flushed is kept (I5).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::common::{header, noise, typical};
use rr_trace::{Error, EventNumber, TraceReader, TraceWriter, WriterOptions};

/// The directory in which a test in a child process works; not set: this is the parent.
const CHILD: &str = "RR_TRACE_TEST_CHILD";

fn event(number: u64) -> rr_trace::Event {
    // Now and then what two events before had too, and zeros.
    match number % 16 {
        9 | 11 => typical(number, (0..20_000).map(|n| (n / 7 + number / 16) as u8).collect()),
        13 => typical(number, vec![0; 9000]),
        _ => typical(number, vec![(number % 251) as u8; (number * 37 % 3000) as usize]),
    }
}

/// This test program again, running only the test `test` of this file, as a child that works in `dir`.
fn child(test: &str, dir: &Path, wrapper: &[&str]) -> Command {
    let program = std::env::current_exe().unwrap();
    let (_, module) = module_path!().split_once("::").unwrap();
    let test = &format!("{module}::{test}");
    let mut words: Vec<&str> = wrapper.to_vec();
    words.extend([
        program.to_str().unwrap(),
        "--exact",
        test,
        "--nocapture",
        "--test-threads=1",
    ]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env(CHILD, dir).stdout(Stdio::null());
    command
}

#[test]
fn killed_at_any_moment() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let options = WriterOptions {
            flush_after: Duration::from_millis(2),
            ..Default::default()
        };
        let mut writer = TraceWriter::create(Path::new(&dir), &header(), &options).unwrap();
        for n in 1.. {
            writer.append(event(n)).unwrap();
            if n % 1000 == 0 {
                writer.start_segment().unwrap();
            }
            if n % 64 == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
    let tmp = tempfile::tempdir().unwrap();
    let mut with_events = 0;
    for round in 0..30u64 {
        let dir = tmp.path().join(round.to_string());
        let mut writer = child("killed_at_any_moment", &dir, &[]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 + round * 7919 % 120));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let trace = match TraceReader::open(&dir) {
            Ok(trace) => trace,
            // Killed before there was a trace.
            Err(Error::NotATrace { .. } | Error::Io { .. }) => continue,
            Err(e) => panic!("{e}"),
        };
        assert!(!trace.is_complete());
        let mut count = 0;
        for got in trace.events_from(EventNumber(1)).unwrap() {
            count += 1;
            assert!(got.unwrap() == event(count), "event {count}");
        }
        assert_eq!(count, trace.last_event().0);
        with_events += u32::from(count > 0);
    }
    assert!(
        with_events > 10,
        "only {with_events} of 30 children wrote anything: the test tests nothing"
    );
}

#[test]
fn disk_full() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return fill(Path::new(&dir));
    }
    let tmp = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=3m none {} && exec \"$0\" \"$@\"",
        tmp.path().display()
    );
    let mine = if nix::unistd::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let wrapper = ["unshare", mine, "sh", "-c", &mount];
    let can_mount = format!("mount -t tmpfs -o size=3m none {}", tmp.path().display());
    let probe = Command::new("unshare")
        .args([mine, "sh", "-c", &can_mount])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: mounting a tmpfs is not permitted here");
        return;
    }
    assert!(
        child("disk_full", tmp.path(), &wrapper)
            .status()
            .unwrap()
            .success()
    );
}

/// Writes until the file system at `mount` is full.
fn fill(mount: &Path) {
    let dir = mount.join("trace");
    let mut writer = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap();
    // Does not compress, so that the end comes soon.
    let mut events = Vec::new();
    let error = loop {
        let number = events.len() as u64 + 1;
        let event = typical(number, noise(number, 50_000));
        events.push(event.clone());
        if let Err(e) = writer.append(event) {
            break e;
        }
        assert!(events.len() < 10_000, "the file system is not full");
        if events.len() % 5 == 0
            && let Err(e) = writer.flush()
        {
            break e;
        }
    };
    assert!(matches!(&error, Error::Full { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("0000000000000001.seg") && text.contains("No space left"),
        "{text}"
    );
    // It stays so, and everybody is told.
    assert!(matches!(writer.flush(), Err(Error::Full { .. })));
    assert!(matches!(
        writer.progress().wait_for(EventNumber(10_000)),
        Err(Error::Full { .. })
    ));
    let written = writer.progress().written().0;
    assert!(matches!(writer.finish(0), Err(Error::Full { .. })));

    // The events that were written are there, and nothing half of one.
    let trace = TraceReader::open(&dir).unwrap();
    assert_eq!(
        (trace.last_event().0, trace.torn_bytes(), trace.is_complete()),
        (written, 0, false)
    );
    assert!(written >= 30, "only {written} events fit into 3 MiB");
    for (got, event) in trace.events_from(EventNumber(1)).unwrap().zip(&events) {
        assert!(got.unwrap() == *event);
    }

    // No room for a new trace at all.
    let blocker = mount.join("blocker");
    let _ = std::fs::write(&blocker, noise(0, 4 << 20));
    let e = TraceWriter::create(&mount.join("other"), &header(), &WriterOptions::default());
    if let Err(e) = e {
        assert!(matches!(e, Error::Full { .. }), "{e}");
        assert!(!mount.join("other").exists(), "half a trace is left");
    }
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let trace = mount.join("trace2");
    if let Ok(writer) = TraceWriter::create(&trace, &header(), &WriterOptions::default()) {
        assert!(matches!(writer.files().add(&file), Err(Error::Full { .. })));
        assert_eq!(
            std::fs::read_dir(trace.join("files")).unwrap().count(),
            0,
            "nothing half of it"
        );
    }
}

//! Captures of a replay, taken by the library: the fate of their frozen forks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rr_checkpoint::{CheckpointWriter, Options};
use rr_replayer::{Error, ReplaySession};
use rr_tests::{Guest, Rr};
use rr_trace::{EventNumber, TraceReader};

/// Children of this thread, zombies among them.
fn children() -> usize {
    let tid = nix::unistd::gettid();
    let children = std::fs::read_to_string(format!("/proc/self/task/{tid}/children")).unwrap();
    children.split_whitespace().count()
}

fn run_to(session: &mut ReplaySession, event: u64) {
    while session.last_event() < EventNumber(event) {
        session.step().unwrap().unwrap();
    }
}

#[test]
fn forks_end_with_the_request_and_are_reaped() {
    let rr = Rr::new();
    let recording = rr.record(&["-n"], &[Guest::build("fork_tree").path.into_os_string()]);
    let reader = Arc::new(TraceReader::open(&recording.dir).unwrap());
    let last = reader.last_event().0;
    let cpu = reader.header().bound_cpu.map(|cpu| cpu as usize);
    let mut session = ReplaySession::start(Arc::clone(&reader), cpu).unwrap();
    assert!(matches!(session.capture(), Err(Error::NoTask { event }) if event == EventNumber(0)));

    // A capture that nobody writes.
    run_to(&mut session, last / 2);
    let before = children();
    let request = session.capture().unwrap();
    assert_eq!(request.image, session.image().unwrap());
    let forks = request.spaces.len();
    assert!(forks > 1, "several processes are alive");
    assert_eq!(children(), before + forks);
    drop(request);
    let reaped = |session: &mut ReplaySession| {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            // Each capture reaps the forks of earlier captures that have ended.
            std::thread::sleep(Duration::from_millis(10));
            let forks = session.capture().unwrap().spaces.len();
            if children() == before + forks {
                return true;
            }
        }
        false
    };
    assert!(reaped(&mut session), "zombies stay");

    // The writer reads the capture while the session goes on.
    let dir = rr.new_dir();
    let mut writer = CheckpointWriter::start(dir, reader.header().uuid, Options::default()).unwrap();
    assert!(writer.submit(session.capture().unwrap()));
    while session.step().unwrap().is_some() {}
    let outcomes = writer.finish().unwrap().outcomes;
    assert_eq!(outcomes.len(), 1);
    assert!(outcomes[0].result.is_ok(), "{outcomes:?}");
    assert!(matches!(session.capture(), Err(Error::NoTask { event }) if event.0 == last));
    drop(session);
    assert_eq!(children(), 0);
}

//! Live checkpoints: a thawed session has the state that was frozen, whatever happened since, and
//! continues in the same way.
//!
//! These tests drive the library, with traces that the `rr` binary records.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use rr_replayer::{LiveCheckpoint, ReplaySession};
use rr_tests::{Guest, Rr};
use rr_trace::{EventNumber, TraceReader};

/// More time than any test here takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a test that must end in time: the replayed tasks die with its process.
fn limited(test: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = sender.send(());
    });
    match receiver.recv_timeout(LIMIT) {
        Err(mpsc::RecvTimeoutError::Timeout) => {
            eprintln!("the test does not end");
            std::process::abort();
        }
        _ => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

fn start(trace: &Path) -> (Arc<TraceReader>, ReplaySession) {
    let reader = Arc::new(TraceReader::open(trace).unwrap());
    let cpu = reader.header().bound_cpu.map_or(0, |cpu| cpu as usize);
    let session = ReplaySession::start(Arc::clone(&reader), Some(cpu)).unwrap();
    (reader, session)
}

/// Replays up to `event`. Returns the output of each event.
fn run_to(session: &mut ReplaySession, event: EventNumber) -> BTreeMap<u64, Vec<u8>> {
    let mut output = BTreeMap::new();
    while session.last_event() < event {
        let Some(replayed) = session.step().unwrap() else {
            break;
        };
        if let Some((_, bytes)) = replayed.output {
            output.insert(replayed.event.number.0, bytes);
        }
    }
    output
}

fn assert_same(a: &ReplaySession, b: &ReplaySession, what: &str) {
    let differences = a.differences(b, 10).unwrap();
    let event = a.last_event();
    assert!(
        differences.is_empty(),
        "{what}, at event {event}: {differences:#?}"
    );
}

/// Freezes at every event, and checks every `looked_at`-th of the checkpoints: at once, and after the
/// end.
fn freezes(name: &'static str, options: &'static [&'static str], looked_at: u64) {
    limited(move || {
        let rr = Rr::new();
        let guest = Guest::build(name);
        let mut program = vec![guest.path.into_os_string()];
        program.extend(guest.args.iter().map(Into::into));
        let recording = rr.record(options, &program);
        let (reader, mut session) = start(&recording.dir);
        let last = reader.last_event();
        let nth = (last.0 / looked_at).max(1);
        let (_, mut straight) = start(&recording.dir);
        let mut kept: Vec<LiveCheckpoint> = Vec::new();
        let mut output = BTreeMap::new();
        loop {
            let frozen = session.freeze().unwrap();
            let event = session.last_event();
            assert_eq!(frozen.event(), event);
            if event.0 % nth == 0 {
                run_to(&mut straight, event);
                assert_same(&straight, &session, &format!("{name}: frozen"));
                let thawed = frozen.thaw().unwrap();
                assert_same(&straight, &thawed, &format!("{name}: thawed"));
                kept.push(frozen);
            }
            let Some(replayed) = session.step().unwrap() else {
                break;
            };
            if let Some((_, bytes)) = replayed.output {
                output.insert(replayed.event.number.0, bytes);
            }
        }
        drop(session);
        for (n, frozen) in kept.iter().enumerate() {
            // Thawing a second time, and running that session, changes nothing.
            let mut thawed = frozen.thaw().unwrap();
            let mut again = frozen.thaw().unwrap();
            if let Some(later) = kept.get(n + 2) {
                let expected = later.thaw().unwrap();
                run_to(&mut thawed, later.event());
                assert_same(&expected, &thawed, &format!("{name}: from {}", frozen.event()));
            }
            run_to(&mut thawed, last);
            let written = run_to(&mut again, last);
            let expected = output.range(frozen.event().0 + 1..);
            assert!(
                written.iter().eq(expected),
                "{name}: output from {}",
                frozen.event()
            );
            assert_eq!(again.last_event(), last);
        }
    });
}

macro_rules! freezes {
    ($($test:ident $guest:ident $options:expr, $looked_at:expr;)*) => {
        $(
            #[test]
            fn $test() {
                freezes(stringify!($guest), &$options, $looked_at);
            }
        )*
    };
}

freezes! {
    threads threads [], 12;
    threads_unbuffered threads ["-n"], 12;
    futexes futex ["-n"], 8;
    forks fork_tree [], 12;
    forks_and_memory fork_memory ["-n"], 12;
    shared_anonymous shared_anon ["-n"], 12;
    shared_file shared_file ["-n"], 12;
    shared_clean shared_clean ["-n"], 12;
    shared_upgrade shared_upgrade ["-n"], 12;
    private_and_shared private_and_shared [], 16;
    many_objects many_objects [], 8;
    memfd memfd ["-n"], 12;
    posix_shm posix_shm ["-n"], 8;
    sysv_shm sysv_shm ["-n"], 8;
    vfork vfork_exec [], 12;
    clone_vm clone_vm ["-n"], 12;
    handlers fault_handlers [], 12;
    nested_handlers signal_nested ["-n"], 12;
    points loop_same [], 12;
    points_of_an_alarm loop_alarm [], 12;
    omitted_and_wiped madvise ["-n"], 20;
    memory_of_all_kinds mmap_mix ["-n"], 12;
    moved_memory mremap ["-n"], 12;
    no_access prot_none ["-n"], 12;
    extended_state xstate [], 12;
    tsc tsc [], 8;
    buffered_memory buffered_memory [], 12;
    exec_of_a_thread thread_exec ["-n"], 12;
    stopped_children stopped_child [], 12;
}

/// Descriptors and processes end with the sessions and checkpoints that own them.
#[test]
fn nothing_is_left_over() {
    limited(|| {
        own_descriptor_table();
        let rr = Rr::new();
        let guest = Guest::build("shared_anon");
        let recording = rr.record(&["-n"], &[guest.path.into_os_string()]);
        let (reader, mut session) = start(&recording.dir);
        let middle = EventNumber(reader.last_event().0 * 2 / 3);
        run_to(&mut session, middle);
        let before = (descriptors(&session), own_descriptors());
        for _ in 0..1000 {
            let frozen = session.freeze().unwrap();
            let thawed = frozen.thaw().unwrap();
            assert_eq!(thawed.last_event(), middle);
        }
        assert_eq!((descriptors(&session), own_descriptors()), before);
        let children = children();
        let frozen = session.freeze().unwrap();
        let mut thawed = frozen.thaw().unwrap();
        drop(session);
        // The last session of a family continues alone.
        drop(frozen);
        run_to(&mut thawed, reader.last_event());
        assert_eq!(thawed.last_event(), reader.last_event());
        drop(thawed);
        assert!(children.iter().all(|child| !alive(*child)));
        let left = self::children();
        assert!(left.is_empty(), "{left:?}");
    });
}

/// Number of descriptors in the table of the replayed tasks.
fn descriptors(session: &ReplaySession) -> usize {
    let pid = session.processes().next().unwrap();
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Gives this thread a table of descriptors of its own, so that they can be counted: other tests run
/// in this process at the same time. The table begins with the standard descriptors alone.
fn own_descriptor_table() {
    // SAFETY: `close_range` takes no pointers. The thread owns no descriptor yet, and those of other
    // threads stay open in the table that they share.
    let result = unsafe { libc::close_range(3, !0, libc::CLOSE_RANGE_UNSHARE as i32) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Names of the open files in this thread's table of descriptors.
fn own_descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/thread-self/fd").unwrap();
    // The descriptor that the directory is read through is closed before its name is asked for.
    let paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let names = paths.iter().filter_map(|path| std::fs::read_link(path).ok());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The tasks that this thread traces.
fn children() -> Vec<i32> {
    let me = nix::unistd::gettid().to_string();
    let is_ours = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|tracer| tracer.trim() == me)
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(is_ours)
        .collect()
}

fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

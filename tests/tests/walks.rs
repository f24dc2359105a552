//! Random walks along traces, forwards and backwards: a place is the same whichever way the walk
//! reaches it.
//!
//! `RR_TESTS=full` walks over more guests, with more seeds. `RR_WALK_SECONDS=3600` continues with new
//! seeds for that time. `RR_WALK_SEED` is the first seed. `RR_WALK_ONLY=loop_same` walks over one
//! guest. `RR_WALK_LOG=1` prints each step.

mod driver;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rr_replayer::timeline::{Action, Stop};
use rr_replayer::{Never, Position};
use rr_tests::{Guest, Rr};
use rr_trace::TraceReader;
use rr_trace::event::EventKind;
use rr_tracee::task::WatchKind;
use rr_tracee::{Addr, AddrRange, Tid};

/// More time than one walk takes beside others. (A condition in a loop of ten million turns takes
/// minutes.)
const LIMIT: Duration = Duration::from_secs(900);

const FEW: [&str; 5] = [
    "threads",
    "loop_same",
    "signal_nested",
    "buffered_memory",
    "vfork_exec",
];
const MORE: [&str; 7] = [
    "loop_alarm",
    "loop_jumps",
    "signal_altstack",
    "buffered_tsc",
    "tsc_loops",
    "fork_tree",
    "stubs_lost",
];
const OPTIONS: [&[&str]; 3] = [&[], &["-n"], &["--checkpoint-interval", "7e"]];

/// Makes one walk, in its own thread: it ends in time, or the test fails. (The replayed tasks die with
/// its process.)
fn walk(trace: &Path, what: &str, seed: u64, steps: u64) {
    let (sender, receiver) = mpsc::channel();
    let (lines, log) = mpsc::channel::<String>();
    let trace: PathBuf = trace.into();
    let thread = std::thread::spawn(move || {
        let shown = std::env::var_os("RR_WALK_LOG").is_some();
        let walked = driver::walk(&trace, seed, steps, &mut |line| {
            if shown {
                eprintln!("seed {seed}, {line}");
            }
            drop(lines.send(line));
        });
        let _ = sender.send(walked.map_err(|e| e.to_string()));
    });
    let walked = receiver.recv_timeout(LIMIT);
    let log: Vec<String> = log.try_iter().collect();
    let last = log[log.len().saturating_sub(5)..].join("\n");
    let Ok(walked) = walked else {
        eprintln!("{what}: the walk with seed {seed} does not end, or has panicked, after\n{last}");
        std::process::abort();
    };
    thread.join().unwrap();
    match walked {
        Ok(compared) => assert!(compared > 0, "{what}: nothing was compared"),
        Err(e) => panic!("{what}, seed {seed}: {e}, after\n{last}"),
    }
}

/// Records a trace once for all walks of the test.
fn record(rr: &Rr, name: &str, options: &[&str]) -> PathBuf {
    let guest = Guest::build(name);
    let mut program = vec![guest.path.into_os_string()];
    program.extend(guest.args.iter().map(Into::into));
    rr.record(options, &program).dir.clone()
}

#[test]
fn every_way_leads_to_the_same_place() {
    let number = |name| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let until = number("RR_WALK_SECONDS");
    let until = until.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let is_full = rr_tests::full() || until.is_some();
    let rr = Rr::new();
    let mut traces = Vec::new();
    let guests = FEW.iter().chain(MORE.iter().filter(|_| is_full));
    let only = std::env::var("RR_WALK_ONLY").ok();
    for (n, guest) in guests.enumerate() {
        if only.as_ref().is_some_and(|only| only != guest) {
            continue;
        }
        for (m, options) in OPTIONS.iter().enumerate() {
            if is_full || m == n % OPTIONS.len() {
                traces.push((format!("{guest} {options:?}"), record(&rr, guest, options)));
            }
        }
    }
    let (seeds, steps) = if is_full { (3, 60) } else { (1, 25) };
    let first = number("RR_WALK_SEED").unwrap_or(1);
    let mut seed = first;
    loop {
        for (what, trace) in &traces {
            walk(trace, what, seed, steps);
        }
        seed += 1;
        if seed - first >= seeds && until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
    }
}

/// Requests an interrupt when asked for the n-th time.
struct Nth(u64);

impl rr_replayer::Interrupt for Nth {
    fn is_requested(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 == 0
    }
}

/// The running task's ticks ask for the user's interrupt, and so do some events. Live checkpoints
/// interrupt the task, too. Wherever the user interrupts, the place gets a name, however many unnamed
/// interrupts came before.
#[test]
fn every_interrupt_leaves_a_place_that_gets_a_name() {
    let rr = Rr::new();
    let program = rr_tests::gdb::Program::c("long_intervals");
    // Twenty calls one after the other. With checkpoints there would be events between them, and
    // perhaps no 16th event would be a call.
    let options = [&["-n"][..], &rr_tests::NO_CHECKPOINTS].concat();
    let recording = rr.record(&options, &program.words);
    let reader = Arc::new(TraceReader::open(&recording.dir).unwrap());
    let process = reader
        .events_from(reader.first_event())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .tid;
    let mut here = driver::timeline(&reader, process).unwrap();
    let mut straight = driver::timeline(&reader, process).unwrap();
    // Before each 16th event a session asks the user without a tick.
    let calls = reader.events_from(reader.first_event()).unwrap().filter_map(|event| {
        let event = event.unwrap();
        let is_call = matches!(&event.kind, EventKind::Syscall { entry: Some(entry), .. } if entry.syscall() == libc::SYS_getppid);
        is_call.then_some(event.number)
    });
    let calls: Vec<_> = calls.skip(1).collect();
    let asked = calls.iter().find(|number| number.0 % 16 == 0).unwrap();
    let before = Position::at_event(rr_trace::event::EventNumber(asked.0 - 1));
    let mut interrupted = 0;
    for n in 1..=16 {
        here.seek(&before, &mut Never).unwrap();
        let stop = here.resume(Action::Continue, &mut Nth(n)).unwrap();
        assert_eq!(stop, Stop::Interrupted);
        here.resume(Action::Step(process), &mut Never).unwrap();
        let position = here.here(&mut Never).unwrap().unwrap();
        assert!(position.last == before.last || n > 4, "{position}");
        interrupted += u32::from(position.last == before.last);
        straight.seek(&position, &mut Never).unwrap();
        let differences = here.session().differences(straight.session(), 5).unwrap();
        assert!(differences.is_empty(), "at {position}: {differences:#?}");
    }
    assert!(
        interrupted > 4,
        "{interrupted} of 16 interrupts came inside the interval"
    );
    // More interrupts in one interval than there are live checkpoints of such places. gdb steps between
    // them.
    here.seek(&before, &mut Never).unwrap();
    for _ in 0..15 {
        assert_eq!(
            here.resume(Action::Continue, &mut Nth(1)).unwrap(),
            Stop::Interrupted
        );
        here.resume(Action::Step(process), &mut Never).unwrap();
    }
    let position = here.here(&mut Never).unwrap().unwrap();
    straight.seek(&position, &mut Never).unwrap();
    let differences = here.session().differences(straight.session(), 5).unwrap();
    assert!(differences.is_empty(), "at {position}: {differences:#?}");
}

/// A turn of a `rep` that writes a watched place leaves the task at the same instruction. The number of
/// executions of the instruction must not depend on the watched places, or a place would have several
/// names.
#[test]
fn turns_that_write_what_is_watched_count() {
    let rr = Rr::new();
    let program = rr_tests::gdb::Program::c("turns");
    let recording = rr.record(&["-n"], &program.words);
    let reader = Arc::new(TraceReader::open(&recording.dir).unwrap());
    let mut process = Tid(0);
    for event in reader.events_from(reader.first_event()).unwrap() {
        if let EventKind::Start { exec, .. } = &event.unwrap().kind {
            process = exec.tid;
        }
    }
    let mut here = driver::timeline(&reader, process).unwrap();
    let mut straight = driver::timeline(&reader, process).unwrap();
    // The place is close behind getppid.
    let call = reader.events_from(reader.first_event()).unwrap().find(|event| {
        let kind = &event.as_ref().unwrap().kind;
        matches!(kind, EventKind::Syscall { entry: Some(entry), .. } if entry.syscall() == libc::SYS_getppid)
    });
    let call = call.unwrap().unwrap().number;
    here.seek(&Position::at_event(call), &mut Never).unwrap();
    let rep = loop {
        let regs = here.session().registers(process).unwrap();
        let mut code = [0; 2];
        here.session_mut().read_memory(process, Addr(regs.rip), &mut code);
        if code == [0xf3, 0xaa] {
            break regs;
        }
        here.resume(Action::Step(process), &mut Never).unwrap();
    };
    // The place is behind 50 turns, which have written the watched byte, and some steps: their end
    // decides if a miscount shows.
    let watched = AddrRange::sized(Addr(rep.rdi + 3), 1);
    for steps in 20..36 {
        let mut here = driver::timeline(&reader, process).unwrap();
        here.seek(&Position::at_event(call), &mut Never).unwrap();
        here.stops.breakpoints.insert(Addr(rep.rip), vec![]);
        for _ in 0..50 {
            let stop = here.resume(Action::Continue, &mut Never).unwrap();
            assert!(matches!(stop, Stop::Breakpoint { .. }), "{stop:?}");
        }
        for _ in 0..steps {
            here.resume(Action::Step(process), &mut Never).unwrap();
        }
        here.stops.watches.push((watched, WatchKind::Write));
        let stop = here.resume(Action::Continue, &mut Never).unwrap();
        assert!(matches!(stop, Stop::Watchpoint { .. }), "{stop:?}");
        here.reverse_continue(&mut Never).unwrap();
        here.reverse_step(process, &mut Never).unwrap();
        let position = here.here(&mut Never).unwrap().unwrap();
        straight.seek(&position, &mut Never).unwrap();
        let differences = here.session().differences(straight.session(), 5).unwrap();
        assert!(differences.is_empty(), "at {position}: {differences:#?}");
    }
}

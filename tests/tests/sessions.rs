//! Debugging sessions with a real gdb: their start with `-g`, the process that gdb sees, and their end.
//! Whatever ends a session, `rr replay` ends, too, and leaves no process.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program};
use rr_tests::terminal::Terminal;
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;

/// The state of a process, if the process exists: `R`, `S`, `t`, `Z` …
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// The children of a process: their numbers and names.
fn children(pid: Pid) -> Vec<(i32, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut all = Vec::new();
    for task in tasks {
        let path = task.unwrap().path();
        let text = fs::read_to_string(path.join("children")).unwrap_or_default();
        for child in text.split_whitespace().map(|child| child.parse().unwrap()) {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            all.push((child, name.trim().to_owned()));
        }
    }
    all
}

/// A session on a terminal, at its prompt.
fn begin(debugged: &Debugged) -> Terminal {
    let mut terminal =
        Terminal::run(&mut debugged.command(&["-o-nx", "-o-q", "-o-iex", "-oset confirm off"]));
    terminal.types("", "(rr) ");
    terminal
}

/// A way to end a session.
type Ending = fn(&mut Terminal, Pid);

fn kill_gdb(_: &mut Terminal, gdb: Pid) {
    kill(gdb, Signal::SIGKILL).unwrap();
}

fn kill_rr(terminal: &mut Terminal, _: Pid) {
    kill(terminal.pid(), Signal::SIGKILL).unwrap();
}

fn hang_up(terminal: &mut Terminal, _: Pid) {
    kill(terminal.pid(), Signal::SIGHUP).unwrap();
}

/// Ends a session and checks that nothing is left of it.
#[track_caller]
fn end(mut terminal: Terminal, what: &str, ending: Ending) {
    let rr = terminal.pid();
    let all = children(rr);
    let gdb = all.iter().find(|(_, name)| name.starts_with("gdb"));
    let gdb = Pid::from_raw(gdb.unwrap_or_else(|| panic!("{what}: no gdb in {all:?}")).0);
    assert!(all.len() >= 2, "{what}: nothing is replayed: {all:?}");
    let began = Instant::now();
    ending(&mut terminal, gdb);
    terminal.limit = Duration::from_secs(20);
    let status = terminal.ends();
    let took = began.elapsed();
    eprintln!("{what}: status {status:?} after {took:?}");
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let is_left = |(pid, _): &&(i32, String)| state(*pid).is_some_and(|state| state != 'Z');
        let left: Vec<_> = all.iter().filter(is_left).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn whatever_ends_a_session_leaves_no_process() {
    let rr = Rr::new();
    let long = Debugged::record(&rr, &[], &Program::c("long"));
    let stopped: [(&str, Ending); 6] = [
        ("detach", |terminal, _| {
            terminal.types("detach\n", "(rr) ");
            terminal.types("quit\n", "quit");
        }),
        ("disconnect", |terminal, _| {
            terminal.types("disconnect\n", "(rr) ");
            terminal.types("quit\n", "quit");
        }),
        ("quit", |terminal, _| drop(terminal.types("quit\n", "quit"))),
        ("gdb is killed", kill_gdb),
        ("rr is killed", kill_rr),
        ("the terminal hangs up", hang_up),
    ];
    for (what, ending) in stopped {
        let mut terminal = begin(&long);
        terminal.types("break work\n", "Breakpoint 1");
        terminal.types("continue\n", "Breakpoint 1, work (");
        terminal.types("", "(rr) ");
        end(terminal, &format!("{what}, stopped"), ending);
    }
    let running: [(&str, Ending); 5] = [
        ("^C and detach", |terminal, _| {
            terminal.types("\x03", "SIGINT");
            terminal.types("", "(rr) ");
            terminal.types("detach\n", "(rr) ");
            terminal.types("quit\n", "quit");
        }),
        ("^C and disconnect", |terminal, _| {
            terminal.types("\x03", "SIGINT");
            terminal.types("", "(rr) ");
            terminal.types("disconnect\n", "(rr) ");
            terminal.types("quit\n", "quit");
        }),
        ("gdb is killed", kill_gdb),
        ("rr is killed", kill_rr),
        ("the terminal hangs up", hang_up),
    ];
    // Forwards and backwards: a condition that never holds, far from the end of the search.
    let line = long.program.line("loop").unwrap();
    for backwards in [false, true] {
        for (what, ending) in running {
            let mut terminal = begin(&long);
            if backwards {
                terminal.types(
                    &format!("tbreak {}\n", long.program.line("end").unwrap()),
                    "(rr) ",
                );
                terminal.types("continue\n", "phase = 2");
                terminal.types("", "(rr) ");
            }
            terminal.types(&format!("break {line} if state == 0\n"), "(rr) ");
            let go = if backwards {
                "reverse-continue\n"
            } else {
                "continue\n"
            };
            terminal.types(go, "Continuing.");
            std::thread::sleep(Duration::from_millis(200));
            let way = if backwards { "backwards" } else { "forwards" };
            end(terminal, &format!("{what}, running {way}"), ending);
        }
    }
}

#[test]
fn the_mappings_of_the_process() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    let name = walk.program.path().display().to_string();
    let expected = format!("process  … Mapped address spaces: … r-xp … {name} … [stack]");
    walk.check(
        &[],
        &[
            ("break main", ""),
            ("continue", "main ()"),
            ("info proc mappings", &expected),
            ("info proc exe", &format!("exe = '{name}'")),
        ],
    );
}

/// A session with `-g` begins at the event, from the nearest stored checkpoint. There are thousands of
/// buffered calls between two events.
#[test]
fn goto_an_event_after_a_long_interval() {
    let rr = Rr::new();
    let options = ["--checkpoint-interval", "5000", "--checkpoint-wait"];
    let debugged = Debugged::record(&rr, &options, &Program::c("buffered"));
    let reader = TraceReader::open(&debugged.dir).unwrap();
    let stored: Vec<u64> = reader.checkpoints().unwrap().iter().map(|at| at.0).collect();
    // A checkpoint in the loop, after some thousand calls.
    let calls = |event: u64| {
        let events = reader.events_from(EventNumber(event)).unwrap();
        events.map(Result::unwrap).next().unwrap().buffered_calls()
    };
    let is_long = |n: &usize| calls(stored[*n]) > 3000 && calls(stored[*n] + 1) > 500;
    let Some(place) = (1..stored.len()).find(is_long) else {
        panic!("no checkpoint after a long interval: {stored:?}");
    };
    let at = stored[place];
    let session = |event: u64| {
        let output = debugged.check(
            &["--log", "rr_replayer=debug", "-g", &event.to_string()],
            &[
                ("when", &format!("Completed event: {event}\n")),
                ("print count", " = "),
                ("print $rip", " = "),
                ("reverse-stepi", ""),
                ("stepi", ""),
                ("when", &format!("Completed event: {event}\n")),
            ],
        );
        let begin = output.split("(test) ").next().unwrap();
        let from = begin.split("starting from the checkpoint at event ").nth(1);
        let from = from.map(|rest| rest.split_whitespace().next().unwrap().parse::<u64>().unwrap());
        let values: Vec<String> = output
            .lines()
            .filter(|l| l.starts_with('$'))
            .map(str::to_owned)
            .collect();
        (from, values)
    };
    let wanted = [
        (at - 1, stored[place - 1]),
        (at, at),
        (at + 1, if stored.contains(&(at + 1)) { at + 1 } else { at }),
    ];
    let with: Vec<_> = wanted.map(|(event, _)| session(event)).into();
    for ((event, nearest), (from, values)) in wanted.iter().zip(&with) {
        assert_eq!(*from, Some(*nearest), "-g {event} of {stored:?}");
        assert_eq!(values.len(), 2, "{values:?}");
    }
    let count = |values: &[String]| values[0].rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    assert!(count(&with[1].1) > count(&with[0].1) + 3000, "{with:?}");
    // A session from the start gives the same.
    let checkpoints = debugged.dir.join("checkpoints");
    fs::remove_dir_all(&checkpoints).unwrap();
    fs::create_dir(&checkpoints).unwrap();
    for ((event, _), (_, values)) in wanted.iter().zip(&with) {
        assert_eq!(session(*event), (None, values.clone()), "-g {event}");
    }
}

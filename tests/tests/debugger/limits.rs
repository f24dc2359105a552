//! Files that are gone, and what cannot be debugged.

use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program};
use rr_tests::rr::copy_program;
use rr_tests::run::run;

#[test]
fn files_that_are_gone_and_output() {
    let rr = Rr::new();
    let mut program = Program::c("walk");
    let copy = rr.new_dir().join("gone");
    copy_program(program.path(), &copy);
    program.words = vec![copy.clone().into()];
    let gone = Debugged::record(&rr, &[], &program);
    let script: &[(&str, &str)] = &[
        ("handle SIGUSR1 nostop noprint pass", ""),
        ("break add", ""),
        ("continue", "Breakpoint 1, add (n=1)"),
        ("bt", "#1 … main ()"),
        ("info sharedlibrary", "libc.so"),
        ("delete", ""),
        ("tbreak write", ""),
        ("continue", "write"),
        ("bt", "main ()"),
    ];
    std::fs::write(&copy, "something else").unwrap();
    gone.check(&[], script);
    std::fs::remove_file(&copy).unwrap();
    gone.check(&[], script);
    gone.check(&["--serve-files"], script);
    // The program's output appears when going forwards, once it is written; not with -q, and elsewhere
    // with --tty.
    let forward: &[(&str, &str)] = &[
        ("handle SIGUSR1 nostop noprint pass", ""),
        ("break {pid}", ""),
        ("continue", "hello 110 11"),
        ("reverse-stepi", "!hello"),
        ("continue", ""),
    ];
    gone.check(&[], forward);
    let quiet: Vec<(&str, &str)> = forward
        .iter()
        .map(|(c, t)| (*c, if t.starts_with("hello") { "!hello" } else { *t }))
        .collect();
    gone.check(&["-q"], &quiet);
    let file = rr.new_dir().join("output");
    gone.check(&["--tty", file.to_str().unwrap()], &quiet);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello 110 11\n");
}

/// The kernel marks the name of an executable that was removed or replaced. A debugger must get the
/// path all the same.
#[test]
fn an_executable_that_lost_its_name_before_it_was_executed() {
    let rr = Rr::new();
    let unnamed = Debugged::record(&rr, &[], &Program::c("unnamed"));
    assert_eq!(unnamed.recorded.shell_status(), 0);
    let script = [
        ("info inferiors", "rr-unnamed- … !(deleted)"),
        ("break inside", "Breakpoint 1"),
        ("reverse-continue", "Breakpoint 1, inside (n=2)"),
        ("bt", "#1 … main (argc=2"),
    ];
    unnamed.check(&["-e"], &script);
}

#[test]
fn what_cannot_be_debugged() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    let refused = |options: &[&str], status: i32, text: &str| {
        let run = run(&mut walk.command(options), rr.limit).expect_status(status);
        assert!(run.out().contains(text), "{}", run.describe());
    };
    refused(&["-g", "99999"], 1, "the recording has the events 1 to ");
    refused(
        &["-d", "/no/such/gdb"],
        1,
        "there is no debugger /no/such/gdb: install gdb",
    );
    refused(&["-p", "4"], 2, "no process 4");
    refused(&["-f", "4"], 2, "no process 4");
    refused(&["-k"], 4, "-s");
    let pass = ("handle SIGUSR1 nostop noprint pass", "");
    let events = walk.check(
        &["-g", "30"],
        &[("when", "Completed event: 30\n"), ("when-end", "")],
    );
    let end = events
        .split("Event at end of recording: ")
        .nth(1)
        .and_then(|t| t.lines().next())
        .unwrap();
    walk.check(
        &["-g", end],
        &[
            pass,
            ("when", "Completed event"),
            ("reverse-continue", "No more reverse-execution history"),
        ],
    );
}

//! Memory and registers that the user changes, functions that they call, and writes of checkpoints.

use std::ffi::OsStr;

use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program};

use super::MODES;

#[test]
fn changes_and_calls() {
    let rr = Rr::new();
    for mode in MODES {
        let walk = Debugged::record(&rr, mode, &Program::c("walk"));
        walk.check(
            &[],
            &[
                ("handle SIGUSR1 nostop noprint pass", ""),
                ("break {calls}", ""),
                ("continue", "calls(5)"),
                ("save calls", ""),
                // Only the stack below the frame differs. Changed memory stays changed until the replay
                // goes on.
                ("print twice(21)", "= 42"),
                ("print add(1)", "= 112"),
                ("print total", "= 112"),
                ("call (int) puts(\"from a call\")", ""),
                ("call (int) fflush(0)", "from a call"),
                ("print copy(\"made here\")", "made here"),
                ("print (char *) $", "made here"),
                ("print crash(1)", "SIGSEGV"),
                ("bt 1", "main ()"),
                ("print calls(3)", "void"),
                ("stepi", ""),
                ("print total", "= 110"),
                ("reverse-stepi", ""),
                ("same calls", ""),
                ("set var total = 5", ""),
                ("print total", "= 5"),
                ("print add(1)", "= 7"),
                ("next", "copy(\"hello\")"),
                ("print total", "= 110"),
                ("reverse-next", "calls(5)"),
                ("same calls", ""),
                ("set var $rax = 77", ""),
                ("print $rax", "= 77"),
                ("checkpoint", "Checkpoint 1"),
                ("restart 1", "calls(5)"),
                ("same calls", ""),
                ("break twice", ""),
                (
                    "print twice(4)",
                    "Breakpoint 2, twice (n=4) … stopped while in a function called from GDB",
                ),
                ("bt", "twice (n=4) … <function called from gdb> … main ()"),
                ("when", "Completed event"),
                ("finish", "= 8"),
                ("delete", ""),
                ("restart 1", "calls(5)"),
                ("same calls", ""),
                ("print (int) _exit(3)", "error"),
                ("restart 1", "calls(5)"),
                ("same calls", ""),
                ("print total", "= 110"),
            ],
        );
    }
}

/// A checkpoint stored from a session, with breakpoints in the code, equals the recorder's, and is
/// used.
#[test]
fn write_checkpoint() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    walk.check(
        &[],
        &[
            ("info checkpoints", "No checkpoints. … !Stored in the trace"),
            ("handle SIGUSR1 nostop noprint pass", ""),
            ("break add", ""),
            ("continue", "add (n="),
            (
                "write-checkpoint",
                "Not stored: a checkpoint can be stored only at an event, and this is inside an interval (event  … `seek ",
            ),
            ("info checkpoints", "No checkpoints. … !Stored in the trace"),
            ("seek 40", ""),
            ("save forty", ""),
            // The checkpoint does not contain the user's changes.
            ("print $rax = 77", "77"),
            ("write-checkpoint", "Checkpoint at event 40 stored in the trace."),
            ("write-checkpoint", "The checkpoint at event 40 is in the trace already."),
            (
                "info checkpoints",
                "No checkpoints. … Stored in the trace: 1, from event 40 to event 40",
            ),
            ("seek 30", ""),
            ("write-checkpoint", "Checkpoint at event 30 stored in the trace."),
            ("info checkpoints", "Stored in the trace: 2, from event 30 to event 40"),
            ("seek 40", ""),
            ("same forty", ""),
            // At this place, breakpoints are in the code.
            ("seek 1", ""),
            ("catch syscall mmap", "Catchpoint"),
            ("continue", "call to syscall"),
            ("write-checkpoint", "at the end of the interval"),
            ("break main", ""),
            ("continue", "returned from syscall"),
            ("write-checkpoint", "stored in the trace."),
            ("delete", ""),
            ("break add", ""),
            ("continue", "add (n="),
            ("delete", ""),
            ("continue", ""),
            ("write-checkpoint", "at the end of the interval"),
            ("continue", "exited"),
            ("write-checkpoint", "The program is not being run."),
        ],
    );
    let verified = rr
        .rr([OsStr::new("verify"), walk.dir.as_os_str()])
        .expect_success();
    assert!(
        verified
            .out()
            .contains("3 checkpoints: image and pages identical"),
        "{}",
        verified.describe()
    );

    let output = walk.check(
        &["--log", "rr_replayer=debug", "-g", "40"],
        &[
            ("info checkpoints", "Stored in the trace: 3, from event "),
            ("when", "Completed event: 40\n"),
            ("handle SIGUSR1 nostop noprint pass", ""),
            ("save forty", ""),
            // The checkpoint after the first `mmap` may be anywhere between the other two.
            ("run 30", ""),
            ("when", "Completed event: 30\n"),
            ("seek 40", ""),
            ("same forty", ""),
            ("continue", ""),
            ("continue", "exited"),
        ],
    );
    for event in [30, 40] {
        let used = format!("starting from the checkpoint at event {event}");
        assert!(output.contains(&used), "{used:?}\n{output}");
    }
}

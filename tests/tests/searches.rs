//! Searches backwards over many stored checkpoints, on all CPUs.

use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program};

/// Runs to the end in ways that leave no live checkpoints.
const TO_END: [(&str, &str); 10] = [
    ("break mark", "Breakpoint 1 at"),
    ("continue", "mark (n=10)"),
    ("save first", ""),
    ("continue", "mark (n=1200)"),
    ("save second", ""),
    ("continue", "mark (n=1210)"),
    ("save third", ""),
    ("continue", "mark (n=2500)"),
    ("break end", "Breakpoint 2 at"),
    ("continue", "Breakpoint 2, end ()"),
];

fn search(mode: &[&str], script: &[(&str, &str)]) {
    let rr = Rr::new();
    let calls = Debugged::record(&rr, mode, &Program::c("calls"));
    assert_eq!(calls.recorded.shell_status(), 0);
    calls.check(&[], &[&TO_END, script].concat());
}

const STORED: &[&str] = &["-n", "--checkpoint-interval", "100e", "--checkpoint-wait"];

#[test]
fn breakpoints() {
    let script = [
        ("reverse-continue", "mark (n=2500)"),
        ("reverse-continue", "mark (n=1210)"),
        ("same third", ""),
        ("reverse-continue", "mark (n=1200)"),
        ("same second", ""),
        ("reverse-continue", "mark (n=10)"),
        ("same first", ""),
        ("reverse-continue", "No more reverse-execution history"),
        ("continue", "mark (n=10)"),
        ("same first", ""),
    ];
    search(STORED, &script);
}

#[test]
fn conditions_watchpoints_and_the_beginning() {
    let script = [
        ("delete", ""),
        ("tbreak mark if n == 1200", "breakpoint 3 at"),
        ("reverse-continue", "mark (n=1200)"),
        ("same second", ""),
        ("tbreak end", ""),
        ("continue", "end ()"),
        ("watch rare if rare == 10", ""),
        ("reverse-continue", "Old value = 1200 … New value = 10"),
        ("delete", ""),
        ("tbreak end", ""),
        ("continue", "end ()"),
        ("tbreak mark if n == 11", ""),
        ("reverse-continue", "No more reverse-execution history"),
    ];
    search(STORED, &script);
}

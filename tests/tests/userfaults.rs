//! Page faults that the program handles (userfaultfd(2)): events that nobody sees but `rr dump`.

use rr_tests::gdb::{Debugged, Program};
use rr_tests::guest::Guest;
use rr_tests::rr::{Rr, words};

/// Wants all code to be intercepted: then replay stops before instructions that trapped and would not trap again.
const INTERCEPT: &str = "--disable-cpuid-features=0";

/// Returns whether programs can use userfaultfd here.
fn is_available() -> bool {
    const USER_MODE_ONLY: libc::c_long = 1;
    // SAFETY: the call concerns no memory, and its descriptor is closed.
    unsafe {
        let fd = libc::syscall(libc::SYS_userfaultfd, USER_MODE_ONLY);
        fd >= 0 && libc::close(fd as i32) == 0
    }
}

#[test]
fn a_page_fault_is_an_event_and_no_signal() {
    if !is_available() {
        return;
    }
    let rr = Rr::new();
    let path = rr.reachable(&Guest::build("userfault_copy").path);
    for options in [&[][..], &["-n"], &[INTERCEPT]] {
        let recording = rr.record(options, &words([&path]));
        assert!(recording.run.status.success(), "{}", recording.run.describe());
        let dump = recording.rr(&["dump"]).expect_success().out();
        let count = |what: &str| dump.lines().filter(|line| line.contains(what)).count();
        // The guest touches 23 pages, and then two more.
        assert_eq!(count("`PAGE_FAULT'"), 25, "{options:?}");
        assert_eq!(count("SIGNAL"), 0, "{options:?}");
        let replay = recording.replay(&[]).expect_success();
        assert_eq!(replay.out(), recording.run.out(), "{options:?}");
    }
}

/// An instruction that waits for a page is one step, forwards and backwards.
#[test]
fn a_debugger_sees_no_fault() {
    if !is_available() {
        return;
    }
    let rr = Rr::new();
    let missing = Debugged::record(&rr, &[], &Program::c("missing"));
    missing.check(
        &[],
        &[
            ("break {touch}", "Breakpoint 1"),
            ("continue", "Breakpoint 1"),
            ("save before", ""),
            ("print area[0]", "= 0"),
            ("next", "!SIGSEGV"),
            ("print area[0]", "= 97"),
            ("reverse-next", "!SIGSEGV"),
            ("same before", ""),
            ("continue", "Breakpoint 1"),
            ("print i", "= 1"),
            ("delete", ""),
            ("watch -l area[8192]", "Hardware watchpoint"),
            ("continue", "Old value = 0 … New value = 99"),
            ("continue", "Old value = 99 … New value = 122"),
            ("reverse-continue", "Old value = 122 … New value = 99"),
            ("reverse-continue", "Old value = 99 … New value = 0"),
            ("delete", ""),
            ("continue", "abc"),
        ],
    );
}

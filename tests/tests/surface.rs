//! The limits of recording: refused calls, many processes, signals from outside.

use std::ffi::OsString;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use rr_tests::Rr;
use rr_tests::guest::{Ending, Guest};
use rr_tests::matrix::{Plan, check_guest, check_recording};
use rr_tests::run::start;

fn program(rr: &Rr, guest: &Guest) -> Vec<OsString> {
    vec![rr.reachable(&guest.path).into_os_string()]
}

#[test]
fn refused_calls_are_answered_and_named_once() {
    let rr = Rr::new();
    let guest = Guest::build("refused_all");
    let recording = rr.record(&rr_tests::NO_CHECKPOINTS, &program(&rr, &guest));
    let info = check_recording(&recording, &Plan::guest(Ending::Exit(0)), None);
    assert!(info.complete);
    let out = recording.run.out();
    let warnings = recording.run.err();
    let mut names: Vec<&str> = out.lines().collect();
    assert_eq!(names.len() % 2, 0, "{out}");
    names.truncate(names.len() / 2);
    for name in &names {
        let count = warnings
            .lines()
            .filter(|line| {
                line.contains(&format!("uses {name},")) || line.contains(&format!("uses {name} ("))
            })
            .count();
        assert_eq!(count, 1, "warnings that name {name}:\n{warnings}");
    }
    assert_eq!(
        warnings.lines().count(),
        names.len(),
        "only what was refused with a warning:\n{warnings}"
    );
}

#[test]
fn two_thousand_processes() {
    let rr = Rr::new().with_limit(Duration::from_secs(240));
    let guest = Guest::build("processes_2000");
    let mut plan = Plan::guest(Ending::Exit(0));
    plan.intervals = vec![None, Some(4000)];
    plan.replays = 1;
    plan.waits = 0;
    check_guest(&rr, &guest, &plan);
}

/// A stop signal and the SIGCONT that ends it, both while the program computes. The program must not be
/// stopped afterwards.
#[test]
fn a_stop_is_taken_back_by_a_continue() {
    let rr = Rr::new().with_limit(Duration::from_secs(60));
    let guest = Guest::build("spin_stopped");
    for pause in [0, 30] {
        let (mut started, trace) =
            rr.start_recording(&rr_tests::NO_CHECKPOINTS, &program(&rr, &guest), &rr.new_dir());
        let pid = started.written_pid(rr.limit);
        std::thread::sleep(Duration::from_millis(20));
        kill(pid, Signal::SIGSTOP).unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        kill(pid, Signal::SIGCONT).unwrap();
        let run = started.finish(rr.limit).expect_status(5);
        let recording = rr.recording_from(trace, run);
        check_recording(&recording, &Plan::guest(Ending::Exit(5)), None);
    }
}

/// A SIGCONT takes a stop back, too, if it comes just before, or just after, the recorder sends the
/// signal that brings the program to its stop. A debug build then sends the SIGCONT itself.
#[test]
fn a_continue_comes_beside_the_carrier_of_a_stop() {
    if std::env::var_os("RR_BIN").is_some() || !cfg!(debug_assertions) {
        return;
    }
    let rr = Rr::new().with_limit(Duration::from_secs(60));
    let guest = Guest::build("spin_stopped");
    // If all signals are blocked, the recorder must look for a SIGCONT before it sends the stop.
    for (how, moment) in [
        ("spin", "before"),
        ("spin", "after"),
        ("calls", "before"),
        ("calls", "after"),
        ("blocked", "before"),
        ("blocked", "after"),
    ] {
        let mut program = program(&rr, &guest);
        program.push(how.into());
        let trace = rr.new_trace();
        let mut command = rr.record_command(&rr_tests::NO_CHECKPOINTS, &trace, &rr.new_dir(), &program);
        let mut started = start(command.env("RR_TEST_CONTINUE", moment));
        let pid = started.written_pid(rr.limit);
        std::thread::sleep(Duration::from_millis(20));
        kill(pid, Signal::SIGSTOP).unwrap();
        let run = started.finish(rr.limit).expect_status(5);
        assert!(
            run.err().contains("rr: test: continued"),
            "no carrier was sent: {}",
            run.describe()
        );
        let recording = rr.recording_from(trace, run);
        check_recording(&recording, &Plan::guest(Ending::Exit(5)), None);
    }
}

/// A process stopped by job control does not prevent checkpoints.
#[test]
fn checkpoints_are_taken_while_a_process_is_stopped() {
    let rr = Rr::new();
    let guest = Guest::build("stopped_child");
    // Every call is an event. The parent makes many meanwhile.
    let options = ["-n", "--checkpoint-interval", "10e", "--checkpoint-wait"];
    let recording = rr.record(&options, &program(&rr, &guest));
    let info = check_recording(&recording, &Plan::guest(Ending::Exit(0)), Some(10));
    // The parent makes 200 calls of its own meanwhile.
    assert!(
        info.checkpoints.iter().filter(|c| c.tasks == 5).count() >= 10,
        "{:?}",
        info.checkpoints
    );
}

/// The kernel gives a program that an unprivileged user traces no set-user-ID privileges. rr warns
/// once.
#[test]
fn a_set_user_id_program_without_its_privileges_gives_one_warning() {
    use std::os::unix::fs::PermissionsExt;

    let Some(rr) = Rr::unprivileged() else {
        eprintln!("only root can make a set-user-ID program of another user");
        return;
    };
    let guest = Guest::build("suid");
    let ours = rr.reachable(&guest.path);
    let dir = rr.new_dir();
    let path = dir.join("privileged");
    std::fs::copy(&ours, &path).unwrap();
    std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let script = format!("{0}; {0}", path.display());
    let program = ["/bin/sh", "-c", &script].map(OsString::from);
    let recording = rr.record(&rr_tests::NO_CHECKPOINTS, &program);
    check_recording(&recording, &Plan::guest(Ending::Exit(0)), None);
    let user = rr_tests::rr::NOBODY;
    let line = format!("uid {user}, euid {user}\n");
    assert_eq!(
        recording.run.out(),
        line.repeat(2),
        "{}",
        recording.run.describe()
    );
    let warnings = recording.run.err();
    assert_eq!(warnings.matches("is set-user-ID").count(), 1, "{warnings}");
    // A recording by root could have all privileges.
    let plain = rr.record(&rr_tests::NO_CHECKPOINTS, &[ours.into_os_string()]);
    assert_eq!(plain.run.err(), "", "{}", plain.run.describe());
}

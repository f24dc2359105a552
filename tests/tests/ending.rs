//! The beginning and end of recordings: the state that the program inherits through rr, signals sent to
//! rr, failures of the recorder, two recorders at a time.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use rr_tests::programs::shell;
use rr_tests::rr::words;
use rr_tests::run::{Started, run, start};
use rr_tests::{Rr, Run};

/// Waits until the program has written `text`.
#[track_caller]
fn wait_for_output(started: &mut Started, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !String::from_utf8_lossy(&started.stdout_so_far()).contains(text) {
        assert!(
            Instant::now() < deadline && !started.ended(),
            "the program never said {text:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Records a script, sends rr a signal once the script has written `ready`, and checks that the trace
/// is complete and replays.
#[track_caller]
fn signalled(rr: &Rr, options: &[&str], script: &str, signal: Signal) -> Run {
    let (mut started, dir) = rr.start_recording(options, &shell(script), &rr.new_dir());
    wait_for_output(&mut started, "ready\n");
    started.signal(signal);
    let run = started.finish(Duration::from_secs(30));
    let recording = rr.recording_from(dir, run);
    assert!(recording.info().complete, "{}", recording.run.describe());
    let replay = recording.replay(&[]).expect_success();
    assert_eq!(replay.stdout, recording.run.stdout);
    recording.verify();
    recording.run
}

#[test]
fn sigterm_reaches_the_program() {
    let rr = Rr::new();
    let run = signalled(&rr, &[], "echo ready; sleep 100", Signal::SIGTERM);
    assert_eq!(run.shell_status(), 128 + 15, "{}", run.describe());
    let run = signalled(
        &rr,
        &["--checkpoint-interval", "3e"],
        "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.02; done",
        Signal::SIGTERM,
    );
    assert_eq!(
        (run.shell_status(), run.out().as_str()),
        (3, "ready\nasked\n"),
        "{}",
        run.describe()
    );
}

#[test]
fn sigterm_becomes_sigkill() {
    let rr = Rr::new();
    let script = "trap '' TERM; (while :; do sleep 0.02; done) & echo ready; wait";
    let run = signalled(
        &rr,
        &["-w", "--checkpoint-interval", "50e"],
        script,
        Signal::SIGTERM,
    );
    assert_eq!(run.shell_status(), 128 + 9, "{}", run.describe());
    assert!(run.elapsed > Duration::from_secs(5) && run.elapsed < Duration::from_secs(9));
}

/// All tasks that this process traces.
fn tracees_of(tracer: i32) -> Vec<i32> {
    let mut tracees = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        for task in std::fs::read_dir(process.path().join("task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            if status.contains(&format!("TracerPid:\t{tracer}\n")) {
                tracees.extend(task.file_name().to_str().and_then(|tid| tid.parse::<i32>().ok()));
            }
        }
    }
    tracees
}

/// All tasks are killed from outside at arbitrary moments, including frozen forks and helpers of
/// checkpoints. The recorder notices the end of each, even if a task dies in the middle of a remote
/// call while its parent cannot reap it.
#[test]
fn everybody_is_killed() {
    let rr = Rr::new();
    for round in 0..12 {
        let script = "(while :; do sleep 0.02; done) & echo ready; wait";
        let options = ["-w", "--checkpoint-interval", "50e"];
        let (mut started, dir) = rr.start_recording(&options, &shell(script), &rr.new_dir());
        wait_for_output(&mut started, "ready\n");
        std::thread::sleep(Duration::from_millis(100 + 37 * round));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !started.ended() && Instant::now() < deadline {
            for tid in tracees_of(started.pid().as_raw()) {
                // The task may be gone by now.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(tid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let run = started.finish(Duration::from_secs(1));
        assert_eq!(run.shell_status(), 128 + 9, "{}", run.describe());
        let recording = rr.recording_from(dir, run);
        assert!(recording.info().complete, "{}", recording.run.describe());
        recording.replay(&[]).expect_success();
    }
}

#[test]
fn sighup_reaches_the_program_and_is_not_urgent() {
    let rr = Rr::new();
    let script = "trap 'echo again; exec sleep 6' HUP; echo ready; while :; do sleep 0.02; done";
    let run = signalled(&rr, &[], script, Signal::SIGHUP);
    assert_eq!(
        (run.shell_status(), run.out().as_str()),
        (0, "ready\nagain\n"),
        "{}",
        run.describe()
    );
}

#[test]
fn keyboard_signals_are_the_programs_own() {
    let rr = Rr::new();
    let (mut started, dir) = rr.start_recording(&[], &shell("echo ready; sleep 0.5; exit 4"), &rr.new_dir());
    wait_for_output(&mut started, "ready\n");
    started.signal(Signal::SIGINT);
    started.signal(Signal::SIGQUIT);
    let run = started.finish(rr.limit);
    assert_eq!(run.shell_status(), 4, "{}", run.describe());
    assert!(rr.recording_from(dir, run).info().complete);
}

/// `nohup rr record …`, a script's `trap '' PIPE`, `ulimit -n`: the program starts as it would without rr.
#[test]
fn signals_and_limits_are_inherited() {
    let rr = Rr::new();
    let script =
        "cat /proc/self/personality; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; ulimit -n; ulimit -Hn";
    let prepare = |command: &mut std::process::Command| {
        // SAFETY: plain system calls, allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                for signal in [
                    Signal::SIGHUP,
                    Signal::SIGPIPE,
                    Signal::SIGINT,
                    Signal::SIGUSR2,
                    Signal::SIGXFSZ,
                    Signal::SIGSEGV,
                ] {
                    nix::sys::signal::signal(signal, SigHandler::SigIgn)?;
                }
                let mut blocked = SigSet::empty();
                blocked.add(Signal::SIGTERM);
                blocked.add(Signal::SIGUSR1);
                blocked.add(Signal::SIGSEGV);
                sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?;
                setrlimit(Resource::RLIMIT_NOFILE, 50, 100)?;
                Ok(())
            });
        }
    };
    let mut native = rr.plain_command("/bin/sh".as_ref(), &rr.new_dir());
    prepare(native.args(["-c", script]));
    let native = run(&mut native, rr.limit).expect_success();
    assert!(native.out().ends_with("50\n100\n"), "{}", native.describe());
    let dir = rr.new_trace();
    let mut recorded = rr.command(["record", "-o"]);
    prepare(recorded.arg(&dir).args(["/bin/sh", "-c", script]));
    let recorded = run(&mut recorded, rr.limit).expect_success();
    assert_eq!(recorded.out(), native.out());
    rr.recording_from(dir, recorded).verify();
}

/// Recorders of one program that start together use different names, and `latest-trace` names one of
/// them.
#[test]
fn parallel_recordings_have_their_own_directories() {
    let rr = Rr::new();
    let all: Vec<Started> = (0..6)
        .map(|_| start(&mut rr.command(["record", "/bin/true"])))
        .collect();
    for started in all {
        started.finish(rr.limit).expect_success();
    }
    let traces = rr.home().join("traces");
    for n in 0..6 {
        let dir = traces.join(format!("true-{n}"));
        assert!(dir.join("header").is_file(), "{} is missing", dir.display());
        rr.rr(words([
            PathBuf::from("replay"),
            "-a".into(),
            "--from-start".into(),
            dir,
        ]))
        .expect_success();
    }
    assert!(traces.join("latest-trace").join("header").is_file());
    // A program that cannot be started leaves no trace, and the link unchanged.
    let before = std::fs::read_link(traces.join("latest-trace")).unwrap();
    let script = rr.new_dir().join("broken");
    std::fs::write(&script, "#!/nonexistent\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    rr.rr(words([PathBuf::from("record"), script])).expect_status(69);
    assert!(!traces.join("broken-0").exists());
    assert_eq!(before, std::fs::read_link(traces.join("latest-trace")).unwrap());
}

/// If the trace cannot grow any more, rr reports the last event that can be replayed, and the replay
/// gets as far as that.
#[test]
fn a_failed_recording_can_be_replayed() {
    let rr = Rr::new();
    let dir = rr.new_trace();
    let flood = rr_tests::Guest::build("random_flood").path;
    // This stores the mapped files, so that the limited recording does not have to.
    rr.rr(words(["record".as_ref(), flood.as_os_str()]))
        .expect_success();
    let mut command = rr.command(["record", "-o"]);
    command.arg(&dir).arg(flood);
    // SAFETY: setrlimit is a plain system call, allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            setrlimit(Resource::RLIMIT_FSIZE, 8 << 20, 8 << 20)?;
            Ok(())
        });
    }
    let run = run(&mut command, Duration::from_secs(100)).expect_status(70);
    let err = run.err();
    let up_to = err
        .lines()
        .find_map(|l| l.strip_prefix("rr: recorded up to event "))
        .and_then(|l| l.split(' ').next()?.parse::<u64>().ok())
        .unwrap_or_else(|| panic!("{}", run.describe()));
    let recording = rr.recording_from(dir, run);
    let info = recording.info();
    assert!(!info.complete && info.events == up_to, "{info:?}, said {up_to}");
    let replay = recording.replay(&[]).expect_success();
    assert!(
        replay.err().contains("incomplete") && recording.run.stdout.starts_with(&replay.stdout),
        "{}",
        replay.describe()
    );
    recording.verify();
}

/// A process that cannot be recorded is ended, with a warning. The other processes continue.
#[test]
fn one_process_that_cannot_be_recorded() {
    let rr = Rr::new();
    for (guest, reason) in [("in_our_place", "where rr needs memory of its own")] {
        let program = rr_tests::Guest::build(guest).path;
        let script = format!("{} & wait $!; echo $?; exec /bin/echo done", program.display());
        for options in [&["-w"][..], &["-w", "--checkpoint-interval", "1e"]] {
            let recording = rr.record(options, &shell(&script));
            let run = &recording.run;
            assert!(
                run.shell_status() == 0 && run.out().ends_with("done\n") && run.err().contains(reason),
                "{}",
                run.describe()
            );
            if guest == "in_our_place" {
                assert_eq!(run.out(), "137\ndone\n");
            }
            let replay = recording.replay(&[]).expect_success();
            assert_eq!(replay.stdout, run.stdout);
            recording.verify();
        }
    }
    // The first program itself cannot be recorded.
    let program = rr_tests::Guest::build("in_our_place").path;
    let dir = rr.new_trace();
    let run = rr.rr(words([
        PathBuf::from("record"),
        "-o".into(),
        dir.clone(),
        program,
    ]));
    assert!(
        run.shell_status() == 70 && run.err().contains("where rr needs memory of its own"),
        "{}",
        run.describe()
    );
    assert!(!dir.exists());
}

/// A program that limits its own resources has the same resources as without rr.
#[test]
fn limits_of_the_program() {
    let rr = Rr::new();
    for limit in ["-v 60000", "-d 8000", "-s 256", "-n 16", "-s unlimited -v 100000"] {
        let script = format!("ulimit {limit}; ls / >/dev/null && ulimit -a | grep -v pending");
        let program = words(["/bin/bash", "-c", &script]);
        let native = rr.native(&program, &rr.new_dir()).expect_success();
        let recording = rr.record(&["--checkpoint-interval", "50e"], &program);
        assert_eq!(
            recording.run.out(),
            native.out(),
            "{limit}\n{}",
            recording.run.describe()
        );
        recording.replay(&[]).expect_success();
        recording.verify();
    }
}

/// Shared memory objects take descriptors: objects that are gone take none, and too many existing
/// objects end the recording with a message.
#[test]
fn descriptors_of_rr() {
    let rr = Rr::new();
    let program = rr_tests::Guest::build("many_objects").path;
    let limited = |args: Vec<std::ffi::OsString>| {
        let mut command = rr.command(args);
        // SAFETY: setrlimit is a plain system call, allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                setrlimit(Resource::RLIMIT_NOFILE, 60, 90)?;
                Ok(())
            });
        }
        run(&mut command, rr.limit)
    };
    let dir = rr.new_trace();
    let record = |more: &[&str], dir: &PathBuf| {
        let mut args = words(["record".into(), "-o".into(), dir.clone(), program.clone()]);
        args.extend(more.iter().map(std::ffi::OsString::from));
        limited(args)
    };
    let recorded = record(&[], &dir).expect_success();
    let replay = limited(words(["replay".into(), PathBuf::from("-a"), dir])).expect_success();
    assert_eq!(replay.out(), recorded.out());
    let dir = rr.new_trace();
    let run = record(&["200"], &dir).expect_status(70);
    assert!(
        run.err().contains("ulimit -Hn") && run.err().contains("recorded up to event"),
        "{}",
        run.describe()
    );
    rr.recording_from(dir, run).replay(&[]).expect_success();
}

/// Every blocked call has its own scratch memory (I3), however many there are.
#[test]
fn more_blocked_threads_than_ever() {
    let guest = rr_tests::Guest::build("blocked_threads");
    let mut plan = rr_tests::Plan::guest(guest.ending);
    plan.intervals = vec![None, Some(2000)];
    (plan.replays, plan.waits) = (1, 0);
    let rr = Rr::new().with_limit(Duration::from_secs(300));
    rr_tests::matrix::check_guest(&rr, &guest, &plan);
}

/// A program may send signals to its own group, which contains the recorder, too. The recorder ignores
/// them.
#[test]
fn signals_to_the_own_group_are_not_for_the_recorder() {
    let rr = Rr::new();
    let record = |options: &[&str], script: &str, status: i32, out: &str| {
        let recording = rr.record(options, &shell(script));
        let run = &recording.run;
        assert_eq!(
            (run.shell_status(), run.out().as_str()),
            (status, out),
            "{}",
            run.describe()
        );
        assert!(recording.info().complete);
        let replay = recording.replay(&[]).expect_success();
        assert_eq!(replay.stdout, recording.run.stdout);
        recording.verify();
    };
    // Longer than the time that a program gets when the recorder is asked to end.
    let trapped =
        "trap 'echo asked' TERM; sleep 100 & sleep 0.3; kill 0; wait; trap '' TERM; sleep 6; echo done";
    record(&[], trapped, 0, "asked\ndone\n");
    for options in [&[][..], &["--checkpoint-interval", "3e"], &["-n"]] {
        record(
            options,
            "sleep 100 & echo ready; kill -9 0; echo no",
            128 + 9,
            "ready\n",
        );
        record(
            options,
            "sleep 100 & echo ready; kill 0; echo no",
            128 + 15,
            "ready\n",
        );
        record(
            options,
            "trap 'echo hup; exit 5' HUP; kill -HUP 0; echo no",
            5,
            "hup\n",
        );
    }
}

//! Options of record and replay as a user sees them: exact output, exit statuses, grammar.

use std::ffi::OsString;

use rr_tests::rr::words;
use rr_tests::{Guest, Recording, Rr, Run};

fn program(name: &str) -> Vec<OsString> {
    words([Guest::build(name).path])
}

fn shell(script: &str) -> Vec<OsString> {
    words(["/bin/sh", "-c", script])
}

/// The rows of `rr ps`, without the heading.
fn ps(recording: &Recording<'_>) -> Vec<Vec<String>> {
    let out = recording.rr(&["ps"]).expect_success().out();
    let row = |line: &str| line.split('\t').map(str::to_owned).collect();
    out.lines().skip(1).map(row).collect()
}

/// The task and the event number of each write, in order, from `rr dump`.
fn writes(recording: &Recording<'_>) -> Vec<(String, u64)> {
    let out = recording.rr(&["dump", "-r"]).expect_success().out();
    let mut entered = std::collections::HashMap::new();
    let mut writes = Vec::new();
    for line in out.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (number, tid): (u64, &str) = (fields[0].parse().unwrap(), fields[1]);
        if fields[2] == "SYSCALL:write" {
            // A call during which other tasks ran has two events. Its mark has the number of the first.
            match entered.remove(tid) {
                Some(_) => {}
                None => {
                    writes.push((tid.to_owned(), number));
                    let text = recording.rr_spec(number);
                    if text.contains("ENTERING_SYSCALL") {
                        entered.insert(tid.to_owned(), number);
                    }
                }
            }
        }
    }
    writes
}

trait Spec {
    fn rr_spec(&self, number: u64) -> String;
}

impl Spec for Recording<'_> {
    /// `rr dump TRACE NUMBER`.
    fn rr_spec(&self, number: u64) -> String {
        dump(self, &[&number.to_string()])
    }
}

fn dump(recording: &Recording<'_>, words: &[&str]) -> String {
    let rr = Rr::new();
    let dir = recording.dir.as_os_str();
    let args = [OsString::from("dump"), dir.to_owned()]
        .into_iter()
        .chain(words.iter().map(OsString::from));
    rr.rr(args).expect_success().out()
}

#[test]
fn marked_output_names_process_and_event_when_recording_and_in_replay() {
    let rr = Rr::new();
    let script = "echo one; echo two >&2; /bin/echo three; echo four";
    let recording = rr.record(&["-M"], &shell(script));
    let writes = writes(&recording);
    assert_eq!(writes.len(), 4, "{writes:?}");
    let mark = |n: usize, text: &str| format!("[rr {} {}]{text}\n", writes[n].0, writes[n].1);
    let out = format!("{}{}{}", mark(0, "one"), mark(2, "three"), mark(3, "four"));
    assert_eq!(recording.run.out(), out);
    assert_eq!(recording.run.err(), mark(1, "two"));
    let replay = recording.replay(&["-M"]).expect_success();
    assert_eq!(replay.out(), out);
    assert_eq!(replay.err(), mark(1, "two"));
    // Marks appear only on request.
    let replay = recording.replay(&[]).expect_success();
    assert_eq!(replay.out(), "one\nthree\nfour\n");
    assert_eq!(replay.err(), "two\n");
}

/// Writes that block, threads, `sendfile` that comes to the end of a file; and replay from checkpoints.
#[test]
fn marks_are_the_same_in_replay() {
    let rr = Rr::new();
    for command in [
        shell("(sleep 0.05; echo late) | cat; cat /etc/passwd; echo end"),
        program("threads"),
        program("stdio_mix"),
        program("splice"),
    ] {
        let recording = rr.record(&["--mark-stdio", "--checkpoint-interval", "9e"], &command);
        let replay = recording.replay(&["-M"]).expect_success();
        assert_eq!(replay.out(), recording.run.out());
        assert_eq!(replay.program_stderr(), recording.run.program_stderr());
        let checkpoints = recording.info().checkpoints;
        let middle = checkpoints[checkpoints.len() / 2].event.to_string();
        let before = recording
            .replay(&["-M", "--from-start", "--until", &middle])
            .expect_success();
        let after = recording.replay(&["-M", "-g", &middle]).expect_success();
        assert_eq!(before.out() + &after.out(), recording.run.out());
    }
}

#[test]
fn options_of_record_end_at_the_program() {
    let rr = Rr::new();
    let recording = rr.record(&["-w"], &words(["/bin/echo", "-h", "-M", "--chaos", "-s"]));
    assert_eq!(recording.run.out(), "-h -M --chaos -s\n");
    assert_eq!(recording.run.err(), "");
    let usage = |run: Run| {
        assert_eq!(run.shell_status(), 1, "{}", run.describe());
        assert!(
            run.err().starts_with("error: ") && run.err().contains("--help"),
            "{}",
            run.describe()
        );
    };
    usage(rr.rr(["record", "--no-such-option", "true"]));
    usage(rr.rr(["--no-such-option", "true"]));
    usage(rr.rr(["record", "-c", "0", "true"]));
    usage(rr.rr(["record", "-i", "SIGNONE", "true"]));
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    let rr = Rr::new();
    let traces = rr.home().join("traces");
    let line = "-S -E -F -A zen --non-interactive --resource-path=/x --log all:warn,Task:debug";
    let global: Vec<&str> = line.split(' ').collect();
    let all = |words: &[&[&str]]| rr.rr(words.concat()).expect_success();
    all(&[&global, &["record"], &["/bin/echo", "x"]]);
    all(&[&["record"], &global, &["/bin/echo", "x"]]);
    assert_eq!(all(&[&global, &["/bin/echo", "-M"]]).out(), "-M\n");
    assert_eq!(all(&[&global, &["replay", "-a"]]).out(), "-M\n");
    assert_eq!(all(&[&["replay"], &global, &["-a"]]).out(), "-M\n");
    let trace = traces.join("echo-0");
    let out = rr.rr([trace.as_os_str(), "-a".as_ref()]).expect_success().out();
    assert_eq!(out, "x\n", "a directory is replayed");
    for version in [&["-N"][..], &["--version"], &["-S", "-N"], &["ls", "-N"]] {
        let out = rr.rr(version).expect_success().out();
        let words: Vec<&str> = out.split_whitespace().collect();
        let numbers =
            |text: &str| text.split('.').count() == 3 && text.split('.').all(|n| n.parse::<u32>().is_ok());
        assert!(
            matches!(&words[..], ["rr", "version", version] | ["rr", "version", version, _] if numbers(version)),
            "{out}"
        );
    }
    let commands = rr.rr(["-L"]).expect_success().out();
    for command in ["record", "replay", "dump", "ps", "mv", "filename"] {
        assert!(commands.lines().any(|line| line == command), "{commands}");
        let help = rr.rr(["help", command]).expect_success().out();
        assert!(help.contains(&format!("Usage: rr {command}")), "{help}");
    }
}

#[test]
fn cpu_options() {
    let rr = Rr::new();
    let trace = |options: &[&str]| {
        let recording = rr.record(options, &words(["true"]));
        assert_eq!(recording.run.shell_status(), 0, "{}", recording.run.describe());
        let info = recording.rr(&["traceinfo"]).expect_success();
        let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
        (info["bindToCpu"].clone(), recording.run.err())
    };
    assert_eq!(trace(&["--bind-to-cpu=any"]).1, "");
    assert_eq!(trace(&["--bind-to-cpu", "0"]), (0.into(), String::new()));
    assert!(trace(&["-u"]).1.starts_with("rr: warning: "));
    let run = rr.rr(["record", "--bind-to-cpu=99999", "true"]);
    assert_eq!(run.shell_status(), 1, "{}", run.describe());
}

#[test]
fn the_trace_directory_is_printed() {
    let rr = Rr::new();
    let run = rr.rr(["record", "-p", "1", "true"]).expect_success();
    assert_eq!(
        run.out(),
        format!("{}\n", rr.home().join("traces/true-0").display())
    );
}

#[test]
fn signals_can_be_ignored_or_survived() {
    let rr = Rr::new();
    rr.native(&program("unhandled"), &rr.new_dir())
        .expect_status(128 + libc::SIGUSR1);
    for option in ["-i", "-t"] {
        let recording = rr.record(&[option, "SIGUSR1"], &program("unhandled"));
        assert!(
            recording.run.out().starts_with("survived"),
            "{}",
            recording.run.describe()
        );
        assert_eq!(recording.replay(&[]).expect_success().out(), recording.run.out());
        recording.verify();
    }
    let recording = rr.record(&["-i", "TERM"], &program("unhandled"));
    assert_eq!(recording.run.shell_status(), 128 + libc::SIGUSR1);
}

/// A handler is called in spite of the option, and a trap that nobody handles is an event.
#[test]
fn a_trap_can_be_survived() {
    let rr = Rr::new();
    let mut command = program("unhandled");
    command.push("int3".into());
    let recording = rr.record(&["-t", "5", "--checkpoint-interval", "1e"], &command);
    assert_eq!(recording.run.shell_status(), 0, "{}", recording.run.describe());
    assert_eq!(recording.replay(&[]).expect_success().out(), recording.run.out());
    recording.verify();
    let recording = rr.record(&["-t", "SIGSEGV"], &program("segv_fix"));
    assert_eq!(recording.run.shell_status(), 0, "{}", recording.run.describe());
}

#[test]
fn replay_shows_one_process() {
    let rr = Rr::new();
    let script = "echo shell; /bin/echo program; (echo forked; exit 3); echo again";
    let recording = rr.record(&[], &shell(script));
    let rows = ps(&recording);
    let forked = rows.iter().find(|row| row[2] == "3").unwrap();
    let program = rows.iter().find(|row| row[3] == "/bin/echo program").unwrap();
    assert_eq!(forked[3], "(forked without exec)");
    let show = |options: &[&str]| recording.replay(options).expect_success().out();
    assert_eq!(show(&["-p", &rows[0][0]]), "shell\nagain\n");
    assert_eq!(show(&["-p", "sh"]), "shell\nagain\n");
    assert_eq!(show(&["-p", "echo"]), "program\n");
    assert_eq!(show(&["--onprocess", &program[0]]), "program\n");
    assert_eq!(show(&["-f", &forked[0]]), "forked\n");
    assert_eq!(show(&["-f", &program[0]]), "program\n");

    for (options, message) in [
        (["-p", "999999"], "rr: no process 999999 executes a program"),
        (["-p", "nosuch"], "rr: no process nosuch executes a program"),
        (["-p", &forked[0]], "executes no program (choose it with -f)"),
        (["-f", "999999"], "rr: there is no process 999999"),
    ] {
        let run = recording.replay(&options).expect_status(2);
        assert!(run.err().contains(message), "{}", run.describe());
        assert_eq!(run.out(), "");
    }
}

#[test]
fn replay_stops_before_an_exit() {
    let rr = Rr::new();
    let recording = rr.record(&[], &shell("/bin/echo one; /bin/true; echo two"));
    for (options, pid_row) in [
        (&["-e"][..], 0),
        (&["-e", "-p", "echo"], 1),
        (&["-e", "-p", "true"], 2),
    ] {
        let pid = &ps(&recording)[pid_row][0];
        let run = recording.replay(options).expect_success();
        let raw = recording.rr(&["dump", "-r"]).expect_success().out();
        let exit = raw
            .lines()
            .find(|line| line.contains(&format!(" {pid} EXIT")))
            .and_then(|line| line.split(' ').next())
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap();
        let message = format!(
            "rr: process {pid} exits at event {exit}; stopped before it, at event {}\n",
            exit - 1
        );
        assert_eq!(run.err(), message);
    }
    assert_eq!(recording.replay(&["-e"]).out(), "one\ntwo\n");
    assert_eq!(recording.replay(&["-e", "-p", "echo"]).out(), "one\n");
    assert_eq!(recording.replay(&["-e", "-p", "true"]).out(), "");
    // In a process with threads: before the first of the last tasks exits.
    let recording = rr.record(&[], &program("thread_exit_group"));
    recording.replay(&["-e"]).expect_success();
}

#[test]
fn statuses_of_replay() {
    let rr = Rr::new();
    let recording = rr.record(&[], &program("hello"));
    recording.replay(&["-k"]).expect_status(4);
    let mut nested = rr.command(["replay", "-a"]);
    nested.env("RUNNING_UNDER_RR", "1");
    rr_tests::run(&mut nested, rr.limit).expect_status(3);
    let mut named = rr.command([
        OsString::from("replay"),
        "-a".into(),
        recording.dir.clone().into(),
    ]);
    named.env("RUNNING_UNDER_RR", "1");
    rr_tests::run(&mut named, rr.limit).expect_success();
}

#[test]
fn replay_can_tell_more() {
    let rr = Rr::new();
    let recording = rr.record(&[], &program("hello"));
    let last = recording.info().events;
    let from = (last - 3).to_string();
    let run = recording
        .replay(&["-t", &from, "-u", "--retry-transient-errors"])
        .expect_success();
    assert_eq!(run.out(), "hello, world\n");
    let err = run.err();
    assert_eq!(err.lines().count(), 4, "{err}");
    assert!(
        err.starts_with(&format!("rr: event {from} tid ")) && err.contains(" rip:0x"),
        "{err}"
    );
    let err = recording.replay(&["--stats=10"]).expect_success().err();
    assert_eq!(err.lines().count() as u64, last / 10, "{err}");
    assert!(err.starts_with("rr: 10 events: "), "{err}");

    let file = rr.new_dir().join("tty");
    let tty = format!("--tty={}", file.display());
    assert_eq!(recording.replay(&[&tty]).expect_success().out(), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello, world\n");
}

#[test]
fn dump_in_the_form_of_the_original() {
    let rr = Rr::new();
    let recording = rr.record(&[], &shell("/bin/echo one"));
    let last = recording.info().events;
    let rows = ps(&recording);
    let all = dump(&recording, &["-b", "-e", "-m", "-p"]);
    assert_eq!(all.lines().filter(|line| *line == "{").count() as u64, last);
    assert_eq!(all.lines().filter(|line| *line == "}").count() as u64, last);
    for what in ["EXEC", "CLONE", "EXIT"] {
        assert_eq!(all.matches(&format!("TraceTaskEvent::{what} ")).count(), {
            if what == "CLONE" { 1 } else { 2 }
        });
    }
    assert!(
        all.contains("{ map_file:\"/usr/lib/x86_64-linux-gnu/libc.so.6\", addr:0x"),
        "{all}"
    );
    assert!(all.contains("prot_flags:\"r-xp\""));
    let buffered = all.matches("\n  { syscall:'").count() as u64;
    assert_eq!(Some(buffered), recording.info().buffered_calls, "{all}");
    assert!(
        all.contains("\n  { syscall:'mprotect', ret:0x0, size:0x28 }\n"),
        "{all}"
    );

    let end = dump(&recording, &["end"]);
    assert!(end.contains(&format!(
        "global_time:{last}, event:`EXIT' (state:NONE) tid:{}, ticks:0",
        rows[0][0]
    )));
    assert_eq!(end.lines().count(), 3, "{end}");
    assert_eq!(end, dump(&recording, &[&last.to_string()]));
    assert_eq!(dump(&recording, &["-r", "3-5", "7", "end"]).lines().count(), 5);
    assert_eq!(
        dump(&recording, &["-r", "3-end"]).lines().count() as u64,
        last - 2
    );

    let one = dump(&recording, &["-r", "-t", &rows[1][0]]);
    assert!(
        one.lines()
            .all(|line| line.split(' ').nth(1) == Some(&rows[1][0])),
        "{one}"
    );
    // The second half of a split call is named, too, wherever the dump begins.
    let wait = dump(&recording, &["-r"])
        .lines()
        .filter(|line| line.contains("SYSCALL:wait4"))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    assert!(wait.len() >= 2, "{wait:?}");
    let second = wait[1].split(' ').next().unwrap();
    assert_eq!(dump(&recording, &["-r", second]), wait[1].clone() + "\n");

    let run = rr.rr([
        OsString::from("dump"),
        recording.dir.clone().into(),
        "nonsense".into(),
    ]);
    assert_eq!(run.shell_status(), 1, "{}", run.describe());
}

#[test]
fn dump_as_json() {
    let rr = Rr::new();
    let recording = rr.record(&[], &program("tcp"));
    let out = dump(
        &recording,
        &["--json", "-b", "-e", "-m", "-p", "--socket-addresses"],
    );
    let events: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(events.len() as u64, recording.info().events);
    assert_eq!(events[0]["type"], "START");
    let buffered = events
        .iter()
        .map(|e| e["buffered"].as_array().unwrap().len() as u64);
    assert_eq!(Some(buffered.sum::<u64>()), recording.info().buffered_calls);
    assert!(
        events[0]["task"]["exec"]["file"]
            .as_str()
            .unwrap()
            .ends_with("tcp")
    );
    let accept = |e: &&serde_json::Value| e["syscall"] == "accept" && e["state"] == "EXITING_SYSCALL";
    let accept = events.iter().find(accept).expect("an accept");
    assert!(
        accept["socket_address"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:"),
        "{accept}"
    );
    let text = dump(&recording, &["--socket-addresses", &accept["event"].to_string()]);
    assert!(
        text.contains(&format!("{{ socket_address:{} }}", accept["socket_address"])),
        "{text}"
    );
}

#[test]
fn ps_in_the_form_of_the_original() {
    let rr = Rr::new();
    let recording = rr.record(&[], &shell("(exit 3); /bin/sh -c 'kill -9 $$'; exit 5"));
    let rows = ps(&recording);
    let first = rows[0][0].clone();
    let rest: Vec<Vec<&str>> = rows
        .iter()
        .map(|row| row[1..].iter().map(String::as_str).collect())
        .collect();
    assert_eq!(
        rest,
        [
            vec!["--", "5", "/bin/sh -c (exit 3); /bin/sh -c 'kill -9 $$'; exit 5"],
            vec![&first, "3", "(forked without exec)"],
            vec![&first, "-9", "/bin/sh -c kill -9 $$"],
        ]
    );
    // A process that outlives the recording.
    let recording = rr.record(&[], &shell("sleep 5 & exit 0"));
    assert_eq!(ps(&recording)[1][2], "none");
}

#[test]
fn traces_are_renamed_and_files_named() {
    let rr = Rr::new();
    let traces = rr.home().join("traces");
    rr.rr(["record", "/bin/echo", "one"]).expect_success();
    rr.rr(["mv", "echo-0", "kept"]).expect_success();
    assert!(traces.join("kept").is_dir() && !traces.join("echo-0").exists());
    assert_eq!(
        std::fs::read_link(traces.join("latest-trace")).unwrap(),
        std::path::Path::new("kept")
    );
    assert_eq!(rr.rr(["replay", "-a"]).expect_success().out(), "one\n");
    rr.rr(["record", "/bin/echo", "two"]).expect_success();
    assert_eq!(rr.rr(["mv", "echo-0", "kept"]).shell_status(), 1);
    assert_eq!(rr.rr(["mv", "no-such", "other"]).shell_status(), 1);
    let away = rr.new_dir().join("away");
    rr.rr(["mv".as_ref(), "kept".as_ref(), away.as_os_str()])
        .expect_success();
    assert_eq!(rr.rr(["replay", "-a"]).expect_success().out(), "two\n");
    let out = rr.rr(["replay".as_ref(), "-a".as_ref(), away.as_os_str()]);
    assert_eq!(out.expect_success().out(), "one\n");

    let files = std::fs::read_dir(away.join("files")).unwrap();
    let args = ["filename".into()]
        .into_iter()
        .chain(files.map(|entry| entry.unwrap().path().into_os_string()));
    let names = rr.rr(args).expect_success().out();
    assert!(names.lines().any(|name| name == "/usr/bin/echo"), "{names}");
    assert!(names.contains("/libc.so.6\n"), "{names}");
    let none = rr.rr(["filename".as_ref(), away.join("header").as_os_str()]);
    assert_eq!(none.shell_status(), 1);
}

/// The statistics show the costs of every short program: rr makes few stops to take the program over,
/// and the sites that all programs use are rewritten in advance.
#[test]
fn short_programs_are_cheap() {
    let rr = Rr::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do /bin/true; done";
    let recording = rr.record(&["--stats"], &shell(script));
    let err = recording.run.err();
    let number = |what: &str| -> u64 {
        let line = err.lines().find(|line| line.contains(what)).unwrap_or_default();
        let mut words = line.trim_start_matches("rr:").split_whitespace();
        words.next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let programs = number("programs executed");
    assert!(programs >= 20, "{err}");
    assert!(number("of rr's own making") < 9 * programs, "{err}");
    // The site of `read` has padding before it.
    assert!(number(" read ") < programs / 2, "{err}");
    assert_eq!(recording.replay(&[]).expect_success().out(), recording.run.out());
}

/// Shells can complete each command, and each has a manual page.
#[test]
fn completions_and_manual_pages() {
    let rr = Rr::new();
    let listed = rr.rr(["--list-commands"]).expect_success().out();
    let commands: Vec<&str> = listed.split_whitespace().filter(|name| *name != "help").collect();
    assert!(commands.len() > 15, "{listed}");
    for shell in ["bash", "zsh", "fish"] {
        let script = rr.rr(["completions", shell]).expect_success().out();
        for command in &commands {
            assert!(script.contains(command), "{shell} does not complete {command}");
        }
    }
    // bash itself accepts the script.
    let script = rr.rr(["completions", "bash"]).expect_success().out();
    let file = rr.new_dir().join("rr.bash");
    std::fs::write(&file, script).unwrap();
    let complete =
        "source \"$1\"; COMP_WORDS=(rr create-c); COMP_CWORD=1; _rr rr create-c rr; echo ${COMPREPLY[@]}";
    let words = ["bash", "-c", complete, "bash", file.to_str().unwrap()];
    let mut bash = std::process::Command::new(words[0]);
    let run = rr_tests::run(bash.args(&words[1..]), rr.limit);
    assert_eq!(run.expect_success().out(), "create-checkpoints\n");

    let dir = rr.new_dir();
    rr.rr(["man".as_ref(), dir.as_os_str()]).expect_success();
    for command in commands {
        let page = std::fs::read_to_string(dir.join(format!("rr-{command}.1"))).unwrap_or_default();
        assert!(page.contains(".SH SYNOPSIS"), "no page of {command}");
    }
    assert_eq!(rr.rr(["man", "/no/such/directory"]).shell_status(), 1);
    assert_ne!(rr.rr(["completions", "sh"]).shell_status(), 0);
}

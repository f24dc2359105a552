//! Real gdb against the made-up program.

// A broken expectation in a test is a failed test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rr_debugger::mock::Mock;
use rr_debugger::{Ended, Listener, Restart, Stop, serve};
use rr_tracee::Tid;

const LIMIT: Duration = Duration::from_secs(60);

/// gdb; it ends with the test, whatever happens.
struct Gdb(Child);

impl Drop for Gdb {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets gdb connect and execute commands. Returns its output, the end of the session, and the program.
fn gdb(mut mock: Mock, with_script: bool, commands: &[&str]) -> (String, Ended, Mock) {
    let mut listener = Listener::private().unwrap();
    let script = listener.directory().unwrap().join("rr.gdb");
    std::fs::write(&script, rr_debugger::script::script()).unwrap();
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-ex", "set confirm off", "-ex", "set sysroot /"]);
    if with_script {
        command.arg("-x").arg(&script);
    }
    command
        .arg("-ex")
        .arg(format!("target extended-remote {}", listener.address()));
    for line in commands {
        command.args(["-ex", line]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut gdb = Gdb(command.spawn().expect("this test needs gdb"));
    let (mut out, mut err) = (gdb.0.stdout.take().unwrap(), gdb.0.stderr.take().unwrap());
    let printed = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        text
    });
    let complaints = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        text
    });
    // A gdb that hangs is killed, and with it the connection, or the wait for one, ends.
    let (gone, alive) = UnixStream::pair().unwrap();
    let watched = std::thread::spawn(move || {
        let _alive = alive;
        let end = Instant::now() + LIMIT;
        while gdb.0.try_wait().unwrap().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(Instant::now() < end, "gdb hangs");
    });
    let mut connection = listener
        .accept(Some(gone.as_fd()))
        .unwrap()
        .expect("gdb did not connect");
    let ended = serve(&mut connection, &mut mock).unwrap();
    drop(connection);
    let hung = watched.join();
    let (printed, complaints) = (printed.join().unwrap(), complaints.join().unwrap());
    assert!(hung.is_ok(), "{printed}\n{complaints}");
    (format!("{printed}\n{complaints}"), ended, mock)
}

/// The texts appear in this order.
fn expect(output: &str, texts: &[&str]) {
    let mut rest = output;
    for text in texts {
        match rest.find(text) {
            Some(at) => rest = &rest[at + text.len()..],
            None => panic!("no {text:?} (in this order) in:\n{output}"),
        }
    }
}

fn run(commands: &[&str]) -> String {
    gdb(Mock::default(), true, commands).0
}

#[test]
fn looking() {
    let (output, ended, _) = gdb(
        Mock::default(),
        true,
        &[
            "info registers",
            "p $fs_base",
            "p $xmm0.uint128",
            "p $st0",
            "x/3i $pc",
            "info threads",
            "info auxv",
            "p *(long*)1",
        ],
    );
    expect(
        &output,
        &[
            "rsp            0x70000800",
            "rip            0x401000",
            "eflags         0x202               [ IF ]",
            "$1 = 0",
            "$2 = 0",
            "$3 = 0",
            "=> 0x401000:\tincq   0x402000",
            "0x401009:\tjmp    0x401000",
            "* 1    Thread 1000.1000 \"mock\"",
            "  2    Thread 1000.1001 \"worker <1>\"",
            "AT_PAGESZ",
        ],
    );
    assert!(output.contains("Cannot access memory at address 0x1"), "{output}");
    for complaint in ["warning: Could not load XML", "badly formatted", "packet error"] {
        assert!(!output.contains(complaint), "{output}");
    }
    assert_eq!(ended, Ended::Detached);
}

#[test]
fn forwards_and_backwards() {
    let output = run(&[
        "break *0x401008",
        "continue",
        "continue",
        "stepi",
        "reverse-stepi",
        "reverse-continue",
        "reverse-continue",
        "delete",
        "watch *(long*)0x402000",
        "continue",
        "continue",
        "reverse-continue",
        "delete",
        "break *0x401008 if $rax > 20",
        "continue",
        "p $rax",
        "delete",
        "continue",
        "continue",
    ]);
    expect(
        &output,
        &[
            "Thread 1 \"mock\" hit Breakpoint 1",
            "Thread 2 \"worker <1>\" hit Breakpoint 1",
            "0x0000000000401009 in",
            "Thread 2 \"worker <1>\" hit Breakpoint 1, 0x0000000000401008",
            "Thread 1 \"mock\" hit Breakpoint 1, 0x0000000000401008",
            // gdb 13 and 16 have different words for its end.
            "history",
            "hit Hardware watchpoint 2: *(long*)0x402000\n\nOld value = 0\nNew value = 1",
            "Old value = 1\nNew value = 2",
            "Old value = 2\nNew value = 1",
            "hit Breakpoint 3",
            "= 22",
            "received signal SIGKILL",
            "exited with code 03",
        ],
    );
}

#[test]
fn commands_of_ours() {
    let (output, _, mock) = gdb(
        Mock::default(),
        true,
        &[
            "break *0x401008",
            "continue",
            "when",
            "checkpoint",
            // From a breakpoint to a place where another thread is: gdb must not take it for a step.
            "run 10",
            "when",
            "back",
            "when",
            "back",
            "restart 1",
            "p $rax",
            "restart 7",
            "info breakpoints",
            "delete",
            "run 9",
            "last *(int*)0x402000",
            "p $rax",
            "monitor when",
            "jump *0x401000",
            "delete checkpoint",
            "run nowhere",
        ],
    );
    expect(
        &output,
        &[
            "Completed event: 1",
            "Checkpoint 1 at 0x0000000000401008 in ?? ()",
            "Thread 2 \"worker <1>\" stopped.",
            "Completed event: 10",
            "Thread 1 \"mock\" stopped.",
            "Completed event: 0",
            "$1 = 12",
            "breakpoint     keep y   0x0000000000401008",
            "hit Hardware watchpoint 2: -location *(int*)0x402000\n\nOld value = 3\nNew value = 2",
            "$2 = 6",
        ],
    );
    for refused in [
        "rr: Can't go back. No more history entries.",
        "rr: Checkpoint 7 not found.",
        "\nCompleted event: 6",
        "Execution of 'jump' is not possible in recorded executions.",
        "'delete checkpoint' requires an argument",
        "run: an event (a number), a checkpoint (cN), or nothing: nowhere",
    ] {
        assert!(output.contains(refused), "{output}");
    }
    assert_eq!(mock.points(), []);
    let checkpoint = mock
        .commands
        .iter()
        .find(|(name, ..)| name == "checkpoint")
        .unwrap();
    assert_eq!(checkpoint.2, ["0x0000000000401008 in ?? ()"]);
}

#[test]
fn a_program_that_has_ended_runs_again() {
    let (output, _, mock) = gdb(
        Mock::default(),
        true,
        &["continue", "continue", "run 4", "when", "stepi", "when"],
    );
    expect(
        &output,
        &[
            "exited with code 03",
            "stopped.",
            "Completed event: 4",
            "Completed event: 5",
        ],
    );
    assert_eq!(mock.restarted, Some(Restart::Event(4)));
}

#[test]
fn run_without_our_script_goes_where_it_should() {
    // As front ends do that have commands of their own for it (-exec-run).
    let (output, _, mock) = gdb(Mock::default(), false, &["set args 7", "run", "p $rax"]);
    assert!(output.contains("= 7"), "{output}");
    assert_eq!(mock.restarted, Some(Restart::Event(7)));
}

#[test]
fn an_interrupt_reaches_a_program_that_runs() {
    let interrupt = "python import threading,os,signal; threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()";
    let (output, ..) = gdb(Mock::endless(), true, &[interrupt, "continue", "p 6*7"]);
    expect(&output, &["received signal SIGINT, Interrupt.", "= 42"]);
}

#[test]
fn a_second_client_is_turned_away() {
    let mut listener = Listener::private().unwrap();
    let first = UnixStream::connect(listener.address()).unwrap();
    let connection = listener.accept(None).unwrap();
    assert!(connection.is_some());
    assert!(UnixStream::connect(listener.address()).is_err());
    drop(first);
}

#[test]
fn events_of_processes() {
    let tid = Tid(1000);
    let child = Tid(1016);
    let with = |stop| Mock::with_next(Ok(stop));
    let run = |stop, catch| {
        gdb(
            with(stop),
            true,
            &["break *0x401008", catch, "continue", "continue"],
        )
        .0
    };
    let hit = "Thread 1 \"mock\" hit Breakpoint 1, 0x0000000000401008";
    let forked = Stop::Forked {
        tid,
        child,
        vfork: false,
    };
    expect(
        &run(forked.clone(), "catch fork"),
        &["hit Catchpoint 2 (forked process 1016)", hit],
    );
    // Nobody asked: gdb goes on by itself.
    expect(&run(forked, "echo"), &[hit]);
    // From here to `VforkDone` gdb has no breakpoints in the memory that both share.
    let vforked = Stop::Forked {
        tid,
        child,
        vfork: true,
    };
    expect(
        &run(vforked, "catch vfork"),
        &["hit Catchpoint 2 (vforked process 1016)"],
    );
    let call = Stop::Syscall {
        tid,
        number: 39,
        entry: true,
    };
    expect(
        &run(call, "catch syscall"),
        &["hit Catchpoint 2 (call to syscall getpid)", hit],
    );
    let executed = Stop::Executed {
        tid,
        path: "/mock/other".into(),
    };
    expect(
        &run(executed, "catch exec"),
        &["hit Catchpoint 2 (exec'd /mock/other)"],
    );
    let signal = Stop::Signal { tid, signo: 12 };
    expect(&run(signal, "echo"), &["received signal SIGUSR2", hit]);
}

//! gdb's machine interface, as front ends use it: they know nothing of our script's commands.

// A broken expectation in a test is a failed test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rr_debugger::mock::Mock;
use rr_debugger::{Ended, Listener, serve};

const LIMIT: Duration = Duration::from_secs(30);

/// gdb, and the lines that it prints; it ends with the test, whatever happens.
struct Gdb {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

impl Drop for Gdb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gdb {
    fn start(script: Option<&std::path::Path>) -> Gdb {
        let mut command = Command::new("gdb");
        command.args(["-nx", "-q", "-i=mi", "-iex", "set confirm off"]);
        if let Some(script) = script {
            command.arg("-x").arg(script);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("this test needs gdb");
        let commands = child.stdin.take().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Gdb {
            child,
            commands,
            lines,
        }
    }

    /// Gives a command, and waits for a line that begins like this.
    fn does(&mut self, command: &str, until: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        let end = Instant::now() + LIMIT;
        let mut seen = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no {until} after {command}:\n{seen}");
            };
            if line.starts_with(until) {
                return line;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
    }
}

/// The session of a front end, with and without rr's script in gdb.
fn session(with_script: bool) {
    let mut listener = Listener::private().unwrap();
    let address = listener.address();
    let script = listener.directory().unwrap().join("rr.gdb");
    std::fs::write(&script, rr_debugger::script::script()).unwrap();
    let mut gdb = Gdb::start(with_script.then_some(script.as_path()));
    let (gone, alive) = UnixStream::pair().unwrap();
    let client = std::thread::spawn(move || {
        let _alive = alive;
        gdb.does("-gdb-set mi-async on", "^done");
        gdb.does("-gdb-set sysroot /", "^done");
        gdb.does(&format!("-target-select extended-remote {address}"), "^connected");
        gdb.does("-break-insert *0x401008", "^done");
        let hit = "*stopped,reason=\"breakpoint-hit\"";
        assert!(gdb.does("-exec-continue", hit).contains("thread-id=\"1\""));
        assert!(gdb.does("-exec-continue", hit).contains("thread-id=\"2\""));
        gdb.does("-exec-step-instruction", "*stopped,reason=\"end-stepping-range\"");
        gdb.does("-exec-continue --reverse", hit);
        assert!(
            gdb.does("-exec-continue --reverse", hit)
                .contains("thread-id=\"1\"")
        );
        gdb.does("-exec-continue --reverse", "*stopped");
        assert!(gdb.does("-thread-info", "^done").contains("worker <1>"));
        gdb.does("-exec-continue", hit);
        // From a breakpoint, to the beginning.
        gdb.does("-exec-run", "*stopped");
        assert!(
            gdb.does("-data-evaluate-expression $rax", "^done")
                .contains("value=\"0\"")
        );
        assert!(gdb.does("-exec-continue", hit).contains("thread-id=\"1\""));
        gdb.does("-gdb-exit", "^exit");
        let end = Instant::now() + LIMIT;
        while gdb.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "gdb does not exit");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let mut connection = listener
        .accept(Some(gone.as_fd()))
        .unwrap()
        .expect("gdb did not connect");
    let ended = serve(&mut connection, &mut Mock::default()).unwrap();
    drop(connection);
    client.join().unwrap();
    assert_eq!(ended, Ended::Detached);
}

#[test]
fn a_front_end() {
    session(true);
}

#[test]
fn a_front_end_without_our_script() {
    session(false);
}

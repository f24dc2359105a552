use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use rr_debugger::mock::Mock;

use super::*;

#[derive(Parser)]
#[command(disable_help_flag = true)]
struct Line {
    trace: Option<PathBuf>,
    #[command(flatten)]
    options: DebuggerOptions,
}

fn options(line: &str) -> DebuggerOptions {
    let words = std::iter::once("replay").chain(line.split_whitespace());
    let line = Line::try_parse_from(words).unwrap();
    assert!(
        line.trace
            .is_none_or(|trace| trace == std::path::Path::new("trace"))
    );
    line.options
}

fn line(options: &DebuggerOptions) -> String {
    let server = launch::Server {
        address: "127.0.0.1:99",
        program: "/bin/prog",
        serves_files: options.serve_files,
    };
    launch::shown(&launch::connecting(options, &server))
}

#[test]
fn the_debuggers_command_line() {
    assert_eq!(
        line(&options("-s 0 -o-n -o -ix -o=-y -i=mi --fullname trace")),
        "gdb -l 10000 -n -ix -y -i mi -fullname -ex 'set sysroot /' -ex 'target extended-remote 127.0.0.1:99'"
    );
    assert_eq!(
        line(&options("-d /usr/bin/lldb-16")),
        "/usr/bin/lldb-16 /bin/prog -o 'process connect --plugin gdb-remote connect://127.0.0.1:99'"
    );
    assert!(line(&options("--serve-files")).contains("target:/"));
    assert_eq!(options("-x a -x b trace -- -ex run").more, ["-ex", "run"]);
    assert!(Line::try_parse_from(["replay", "-h", "host"]).is_err());
}

/// gdb, killed after a minute.
fn gdb(directory: &std::path::Path) -> PathBuf {
    let path = directory.join("gdb");
    std::fs::write(&path, "#!/bin/sh\nexec timeout -k 5 60 gdb \"$@\"\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_debugger_in_the_foreground() {
    let directory = tempfile::tempdir().unwrap();
    let (log, commands) = (directory.path().join("log"), directory.path().join("commands"));
    std::fs::write(&commands, "stepi\nstepi\n").unwrap();
    let options = DebuggerOptions {
        debugger: Some(gdb(directory.path())),
        debugger_option: ["-nx", "-batch", "-iex", "set python print-stack full"]
            .map(OsString::from)
            .into(),
        gdb_x: vec![commands],
        more: [
            "-ex",
            &format!("set logging file {}", log.display()),
            "-ex",
            "set logging enabled on",
            "-ex",
            "when",
            "-ex",
            "disconnect",
            "-ex",
            "shell test -n \"$GDB_UNDER_RR\" && echo under rr >&2",
            "-ex",
            "python gdb.execute('quit 7')",
        ]
        .map(OsString::from)
        .into(),
        ..DebuggerOptions::default()
    };
    let mut mock = Mock::default();
    let code = debug(&mut mock, &options, false).unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(7)));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("Completed event: 2"), "{log}");
    assert_eq!(mock.now, 2);
}

#[test]
fn debuggers_that_do_not_start_or_never_connect() {
    let named = |name: &str| DebuggerOptions {
        debugger: Some(name.into()),
        ..DebuggerOptions::default()
    };
    let error = debug(&mut Mock::default(), &named("no-such-gdb"), false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no-such-gdb: install gdb"), "{error}");
    let code = debug(&mut Mock::default(), &named("/bin/false"), false).unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
}

#[test]
fn clients_one_after_the_other() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(is_listening(other.local_addr().unwrap().port()));
    let port = free_port();
    let served = std::thread::spawn(move || {
        let options = options(&format!("-s {port}"));
        debug(&mut Mock::default(), &options, false).unwrap();
    });
    let end = Instant::now() + Duration::from_secs(20);
    let client = loop {
        match std::net::TcpStream::connect(("127.0.0.1", port)) {
            Ok(client) => break client,
            Err(e) => assert!(Instant::now() < end, "{e}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    drop(client);
    served.join().unwrap();
    assert!(!is_listening(port));
}

/// A port that nobody uses, below those that the kernel chooses itself (ip(7), `ip_local_port_range`). This process has never had a
/// socket there: a process that another test has started would have a copy of it, until it executes its program.
fn free_port() -> u16 {
    let first = (std::process::id() % 1000 * 10) as u16;
    let mut ports = (0..10_000).map(|n| 20_000 + (first + n) % 10_000);
    let is_free = |port: &u16| std::net::TcpStream::connect(("127.0.0.1", *port)).is_err();
    ports.find(is_free).unwrap()
}

/// Returns whether this process listens at a port. (To connect says less, for the same reason.)
fn is_listening(port: u16) -> bool {
    const LISTEN: &str = "0A";
    let own: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| Some(std::fs::read_link(fd.ok()?.path()).ok()?.display().to_string()))
        .collect();
    // proc_net_tcp(5): the local address is the second column, the state the fourth, the inode the tenth.
    let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    sockets.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[1].ends_with(&format!(":{port:04X}"))
            && columns[3] == LISTEN
            && own.contains(&format!("socket:[{}]", columns[9]))
    })
}

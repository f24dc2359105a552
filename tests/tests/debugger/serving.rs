//! rr as a server: `-s`, several debuggers, and the machine interface.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program, check};
use rr_tests::run::{Started, run, start};

/// Serves a recording on a port. Returns the process, the port, and the command to start gdb.
fn serving(debugged: &Debugged, options: &[&str]) -> (Started, u16, String) {
    let server = start(&mut debugged.command(&[&["-s", "0"], options].concat()));
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let text = String::from_utf8(server.stdout_so_far()).unwrap();
        if let Some((_, after)) = text.split_once("127.0.0.1:")
            && let Some((port, _)) = after.split_once('\'')
        {
            let line = text.lines().nth(1).unwrap().trim().to_owned();
            return (server, port.parse().unwrap(), line);
        }
        assert!(Instant::now() < end && !server.ended(), "{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn asks(client: &mut TcpStream, packet: &str) -> String {
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(packet.as_bytes()).unwrap();
    let mut answer = String::new();
    while !answer.contains('#') {
        let mut buf = [0; 256];
        match client.read(&mut buf) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.push_str(&String::from_utf8_lossy(&buf[..n])),
        }
    }
    answer
}

#[test]
fn servers() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    let (server, port, line) = serving(&walk, &["-k"]);
    // A client disconnects in the middle. No second client is accepted meanwhile.
    let mut first = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(asks(&mut first, "$?#3f").contains("$T"));
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "a second client at once"
    );
    assert!(asks(&mut first, "+$qC#b4").contains("$QC"));
    assert!(asks(&mut first, "+$nonsense#00$qC#b4").contains('$'));
    first.write_all(b"+$vCont;c").unwrap();
    drop(first);
    // gdb by the printed command, and with our commands; twice.
    let gdbinit = rr.new_dir().join("rr.gdb");
    std::fs::write(&gdbinit, rr.rr(["gdbinit"]).expect_success().stdout).unwrap();
    let script: &[(&str, &str)] = &[
        ("break add", ""),
        ("continue", "add (n="),
        ("reverse-stepi", ""),
        ("when", "Completed event: "),
        ("run", ""),
        ("when", "Completed event: "),
        ("continue", "add (n=1)"),
        ("disconnect", ""),
    ];
    let file = walk.script(script);
    for _ in 0..2 {
        let line = line.replacen("gdb ", &format!("gdb -nx -batch -x {} ", gdbinit.display()), 1);
        let line = format!("{line} -x {} 2>&1", file.display());
        let mut command = rr.plain_command("sh".as_ref(), rr.home());
        let run = run(command.arg("-c").arg(&line), rr.limit);
        check(&walk.program, &run.out(), &line, script);
    }
    assert!(!server.ended());
    server.signal(Signal::SIGTERM);
    server.finish(rr.limit);
    // Without -k the server ends with its client.
    let (server, port, _) = serving(&walk, &[]);
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    server.finish(rr.limit).expect_status(0);
}

/// The commands that VS Code (`remote`) and CLion (`extended-remote`) send.
#[test]
fn machine_interface() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    let gdbinit = rr.new_dir().join("rr.gdb");
    std::fs::write(&gdbinit, rr.rr(["gdbinit"]).expect_success().stdout).unwrap();
    for (kind, with_script) in [("remote", false), ("extended-remote", true)] {
        let (server, port, _) = serving(&walk, &[]);
        let mut commands = format!(
            "-gdb-set mi-async off\n-gdb-set sysroot /\n-enable-pretty-printing\n\
             -file-exec-and-symbols {}\n-target-select {kind} 127.0.0.1:{port}\n\
             -interpreter-exec console \"handle SIGUSR1 nostop noprint pass\"\n\
             -break-insert add\n-exec-continue\n-stack-list-frames\n-stack-list-variables --all-values\n\
             -thread-info\n-exec-step\n-exec-finish\n-exec-next --reverse\n-exec-step --reverse\n\
             -exec-continue --reverse\n-exec-continue\n-data-evaluate-expression total\n\
             -data-list-register-values x\n-var-create - * n\n-break-watch total\n-exec-continue\n",
            walk.program.path().display()
        );
        if with_script {
            commands += "-interpreter-exec console \"when\"\n-interpreter-exec console \"checkpoint\"\n\
                         -interpreter-exec console \"restart 1\"\n-interpreter-exec console \"reverse-continue\"\n";
        }
        commands += "-target-disconnect\n-gdb-exit\n";
        let file = rr.new_dir().join("commands");
        std::fs::write(&file, commands).unwrap();
        let script = if with_script {
            format!("-x {}", gdbinit.display())
        } else {
            String::new()
        };
        let line = format!("exec gdb -nx -q -i=mi {script} < {} 2>&1", file.display());
        let mut command = rr.plain_command("sh".as_ref(), rr.home());
        let out = run(command.arg("-c").arg(&line), rr.limit).out();
        let mut texts = vec![
            "^connected",
            "^done,bkpt={number=\"1\"",
            "*stopped,reason=\"breakpoint-hit\"",
            "^done,stack=[frame={level=\"0\"",
            "func=\"add\"",
            "^done,variables=[{name=\"n\"",
            "^done,threads=[",
            "*stopped,reason=\"end-stepping-range\"",
            "func=\"twice\"",
            "*stopped,reason=\"function-finished\"",
            "func=\"add\"",
            "*stopped",
            "*stopped",
            // gdb 13 and 16 report the end of history in different words.
            "history",
            "*stopped",
            "*stopped,reason=\"breakpoint-hit\"",
            "^done,value=\"0\"",
            "register-values",
            "^done,name=\"var1\"",
            "^done,wpt={number=\"2\"",
            "*stopped,reason=\"watchpoint-trigger\"",
            "value={old=\"0\",new=\"2\"}",
        ];
        if with_script {
            texts.extend([
                "Completed event: ",
                "Checkpoint 1 at",
                "*stopped",
                "*stopped,reason=\"watchpoint-trigger\"",
            ]);
        }
        texts.push("^exit");
        let mut rest = out.as_str();
        for text in texts {
            match rest.split_once(text) {
                Some((_, after)) => rest = after,
                None => panic!("no {text:?} (in this order)\n{out}"),
            }
        }
        server.finish(rr.limit).expect_status(0);
    }
}

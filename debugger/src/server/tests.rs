use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rr_tracee::{Addr, Tid};

use super::*;
use crate::connection::encode;
use crate::mock::{FIRST, Mock};
use crate::target::{Restart, TargetError};

/// The server's answers to packets, without the framing; the end of the session, and the program afterwards.
fn session(mut mock: Mock, packets: &[&str]) -> (Vec<String>, Ended, Mock) {
    let (mut client, server) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut connection = Connection::new(Box::new(server));
    for packet in packets {
        client.write_all(&encode(packet.as_bytes())).unwrap();
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let ended = serve(&mut connection, &mut mock).unwrap();
    drop(connection);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    let mut decoder = crate::connection::Decoder::default();
    let answers = bytes.iter().filter_map(|byte| match decoder.push(*byte) {
        Some(crate::connection::Frame::Packet { content, sound }) => {
            assert!(sound);
            Some(String::from_utf8_lossy(&content).into_owned())
        }
        _ => None,
    });
    (answers.collect(), ended, mock)
}

const HELLO: &str = "qSupported:multiprocess+;swbreak+;hwbreak+;fork-events+;vfork-events+;exec-events+";

/// The answers to packets after a greeting of a client that can do everything.
fn answers(packets: &[&str]) -> Vec<String> {
    after(Mock::default(), packets)
}

fn after(mock: Mock, packets: &[&str]) -> Vec<String> {
    let all: Vec<&str> = std::iter::once(HELLO).chain(packets.iter().copied()).collect();
    let mut answers = session(mock, &all).0;
    answers.remove(0);
    answers
}

/// The one answer to one packet.
fn answer(packet: &str) -> String {
    answers(&[packet]).pop().unwrap()
}

/// A stop reply without the registers.
fn short(reply: &str) -> String {
    reply
        .split_inclusive(';')
        .filter(|part| !part.starts_with(['6', '7', '1']))
        .collect()
}

fn hexed(text: &str) -> String {
    hex::encode(text.as_bytes())
}

#[test]
fn threads() {
    assert_eq!(answer("qC"), "QCp3e8.3e8");
    assert_eq!(answer("qfThreadInfo"), "mp3e8.3e8,p3e8.3e9");
    assert_eq!(answer("qThreadExtraInfo,p3e8.3e9"), hexed("worker <1>"));
    assert_eq!(
        answers(&["Hgp3e8.3e9", "qC", "Hgp3e8.5", "Hgp1.3e8", "Hg"])[..],
        ["OK", "QCp3e8.3e9", "E03", "E03", "E16"]
    );
    assert_eq!(
        answers(&["Tp3e8.3e8", "T3e9", "T7", "Tx"])[..],
        ["OK", "OK", "E03", "E16"]
    );
    let xml = answer("qXfer:threads:read::0,1000");
    assert!(
        xml.contains("<thread id=\"p3e8.3e9\" name=\"worker &lt;1&gt;\"/>"),
        "{xml}"
    );
    let (plain, ..) = session(Mock::default(), &["qC", "qfThreadInfo", "?"]);
    assert_eq!(plain[..2], ["QC3e8", "m3e8,3e9"]);
    assert_eq!(short(&plain[2]), "T05thread:3e8;");
}

#[test]
fn registers_and_memory() {
    let all = answer("g");
    let answers_ = answers(&["p10", "P0=0100000000000000", "p0", "pfff", "P0=01", "g"]);
    assert_eq!(
        answers_[..5],
        ["0010400000000000", "OK", "0100000000000000", "E16", "E16"]
    );
    assert_eq!(answers_[5].len(), all.len());
    let changed = format!("0200{}", &all[4..]);
    assert_eq!(
        answers(&[&format!("G{changed}"), "g", "G00"])[..],
        ["OK", &changed, "E16"]
    );
    assert_eq!(
        answers(&["m401008,3", "m0,8", "m402ff0,20", "m1"])[..],
        ["90ebf5", "E0e", &"00".repeat(16), "E16"]
    );
    assert_eq!(
        answers(&[
            "M402100,2:0a0b",
            "m402100,2",
            "x402100,1",
            "X402100,1:z",
            "m402100,1",
            "X402100,0:"
        ])[..],
        ["OK", "0a0b", "b\n", "OK", "7a", "OK"]
    );
    assert_eq!(answers(&["M0,1:00"])[0], "E.there is no such memory");
    assert_eq!(
        answers(&[
            "qSearch:memory:401000;1000;\u{1}",
            "qSearch:memory:401000;1000;%",
            "qSearch:memory:401000;9000;zz"
        ])[..],
        ["0", "1,401003", "E0e"]
    );
}

#[test]
fn running_and_breakpoints() {
    let replies = answers(&[
        "Z0,401008,1",
        "vCont;c:p3e8.-1",
        "vCont;c",
        "z0,401008,1",
        "vCont;c",
        "vCont;c",
    ]);
    let shorts: Vec<String> = replies.iter().map(|reply| short(reply)).collect();
    assert_eq!(
        shorts[..4],
        [
            "OK",
            "T05swbreak:;thread:p3e8.3e8;",
            "T05swbreak:;thread:p3e8.3e9;",
            "OK"
        ]
    );
    assert_eq!(shorts[4], "T09thread:p3e8.3e9;");
    assert_eq!(replies[5], "W03;process:3e8");
    assert!(replies[1].contains("10:0810400000000000;"), "{}", replies[1]);
    let replies = answers(&[
        "vCont;s:p3e8.3e8;c:p3e8.-1",
        "p10",
        "vCont;r401000,40100b:p3e8.3e8",
        "p0",
    ]);
    assert_eq!(short(&replies[0]), "T05thread:p3e8.3e8;");
    assert_eq!(replies[1], "0810400000000000");
    let replies = answers(&[
        "Z2,402000,8",
        "c",
        "Z4,402004,1",
        "z2,402000,8",
        "c",
        "bc",
        "bs",
        "bc",
    ]);
    let shorts: Vec<String> = replies.iter().map(|reply| short(reply)).collect();
    assert_eq!(shorts[1], "T05watch:402000;thread:p3e8.3e8;");
    assert_eq!(
        shorts[4..6],
        [
            "T05awatch:402004;thread:p3e8.3e9;",
            "T05awatch:402004;thread:p3e8.3e9;"
        ]
    );
    assert_eq!(shorts[6], "T05awatch:402004;thread:p3e8.3e8;");
    let begin = answers(&["vCont;s:p3e8.3e8", "bc"]);
    assert_eq!(short(&begin[1]), "T05replaylog:begin;thread:p3e8.3e8;");
    let many: Vec<String> = (0..5).map(|n| format!("Z2,40200{n},1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        answers(&many)[4],
        "E.no hardware resources are left for this watchpoint"
    );
    assert_eq!(answers(&["Z5,0,1", "Z0,x,1", "Z0,1"])[..], ["", "E16", "E16"]);
}

#[test]
fn conditions() {
    // reg rax; const8 7; equal; end
    let replies = answers(&["Z0,401008,1;X7,26000022071327", "c", "p0"]);
    assert_eq!(replies[2], "0700000000000000");
    let two = answers(&[
        "Z0,401008,1;X7,26000022071327X7,26000022041327;cmds:0,X1,27",
        "c",
        "p0",
        "c",
        "p0",
    ]);
    assert_eq!([&two[2][..2], &two[4][..2]], ["04", "07"]);
}

#[test]
fn kinds_of_stops() {
    let tid = FIRST;
    let reply = |stop| short(&after(Mock::with_next(Ok(stop)), &["vCont;c"])[0]);
    assert_eq!(
        reply(Stop::Signal {
            tid,
            signo: libc::SIGUSR1
        }),
        "T1ethread:p3e8.3e8;"
    );
    assert_eq!(reply(Stop::Interrupted { tid }), "T02thread:p3e8.3e8;");
    assert_eq!(
        reply(Stop::Breakpoint {
            tid,
            addr: Addr(1),
            hardware: true
        }),
        "T05hwbreak:;thread:p3e8.3e8;"
    );
    assert_eq!(
        reply(Stop::Syscall {
            tid,
            number: 39,
            entry: true
        }),
        "T05syscall_entry:27;thread:p3e8.3e8;"
    );
    assert_eq!(
        reply(Stop::Syscall {
            tid,
            number: 39,
            entry: false
        }),
        "T05syscall_return:27;thread:p3e8.3e8;"
    );
    assert_eq!(
        reply(Stop::Forked {
            tid,
            child: Tid(16),
            vfork: false
        }),
        "T05fork:p10.10;thread:p3e8.3e8;"
    );
    assert_eq!(
        reply(Stop::Forked {
            tid,
            child: Tid(16),
            vfork: true
        }),
        "T05vfork:p10.10;thread:p3e8.3e8;"
    );
    assert_eq!(reply(Stop::VforkDone { tid }), "T05vforkdone:;thread:p3e8.3e8;");
    assert_eq!(
        reply(Stop::Executed {
            tid,
            path: "/a".into()
        }),
        "T05exec:2f61;thread:p3e8.3e8;"
    );
    assert_eq!(
        reply(Stop::HistoryEnd { tid }),
        "T05replaylog:end;thread:p3e8.3e8;"
    );
    assert_eq!(reply(Stop::Exited { status: 11 }), "X0b;process:3e8");
    let failed = Mock::with_next(Err(TargetError::Failed("diverged".into())));
    let replies = after(failed, &["vCont;c", "g"]);
    assert_eq!(
        [&replies[0], &short(&replies[1])[..]],
        [&format!("O{}", hexed("rr: diverged\n")), "T00thread:p3e8.3e8;"]
    );
    assert!(replies[2].len() > 100);
}

mod session;

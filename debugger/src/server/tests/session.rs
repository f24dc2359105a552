use super::*;

#[test]
fn options() {
    let (_, _, mock) = session(
        Mock::default(),
        &["QPassSignals:e;14;1e", "QCatchSyscalls:1;27;3b", "c"],
    );
    assert_eq!(
        mock.options.pass_signals,
        [libc::SIGALRM, libc::SIGCHLD, libc::SIGUSR1]
    );
    assert_eq!(mock.options.catch_syscalls, Some(vec![39, 59]));
    assert!(!mock.options.fork_events);
    let (_, _, mock) = session(
        Mock::default(),
        &[HELLO, "QPassSignals:e", "QPassSignals:", "QCatchSyscalls:1", "c"],
    );
    assert_eq!(
        (mock.options.pass_signals.len(), mock.options.catch_syscalls),
        (0, Some(vec![]))
    );
    assert!(mock.options.fork_events && mock.options.vfork_events && mock.options.exec_events);
    assert_eq!(
        answers(&["QCatchSyscalls:0", "QCatchSyscalls:2", "QPassSignals:x"])[..],
        ["OK", "E16", "E16"]
    );
}

#[test]
fn ends() {
    let end = |packets: &[&str]| session(Mock::default(), packets).1;
    assert_eq!(end(&["?"]), Ended::Vanished);
    assert_eq!(end(&["D"]), Ended::Detached);
    assert_eq!(end(&["D;3e8"]), Ended::Detached);
    assert_eq!(end(&["D;3e9"]), Ended::Vanished);
    assert_eq!(end(&["k"]), Ended::Killed);
    assert_eq!(end(&["!", "vKill;3e8", "qfThreadInfo"]), Ended::Killed);
    assert_eq!(end(&["!", "vKill;3e8", "vRun;"]), Ended::Vanished);
    // A child that gdb does not want goes on without effect.
    assert_eq!(
        answers(&["D;3e9", "qC", "!", "D;3e8", "?", "g", "m401000,1", "vCont;c"])[..],
        [
            "OK",
            "QCp3e8.3e8",
            "OK",
            "OK",
            "W00;process:3e8",
            "E03",
            "E03",
            "E03"
        ]
    );
    let (.., mock) = session(Mock::default(), &["Z0,401000,1", "Z2,402000,4"]);
    assert_eq!(mock.points(), []);
}

#[test]
fn restarts() {
    let run = |arg: &str| format!("vRun;;{}", hexed(arg));
    let (replies, _, mock) = session(
        Mock::default(),
        &[
            "vKill;3e8",
            "!",
            "vKill;3e8",
            &run("7"),
            "vCont;c",
            "p0",
            "vCont;c",
        ],
    );
    // Without the extended protocol the connection ends with the program.
    assert_eq!((replies.len(), mock.restarted), (1, None));
    let (replies, _, mock) = session(
        Mock::default(),
        &["!", "vKill;3e8", &run("7"), "vCont;c", "p0", "vCont;s:3e8"],
    );
    assert_eq!(short(&replies[2]), "T05thread:3e8;");
    assert_eq!(
        [&short(&replies[3])[..], &replies[4][..4]],
        ["T00thread:3e8;", "0700"]
    );
    assert_eq!((mock.restarted, mock.now > 7), (Some(Restart::Event(7)), true));
    assert_eq!(
        session(Mock::default(), &["vRun;2f61"]).2.restarted,
        Some(Restart::Last)
    );
    assert_eq!(
        session(Mock::default(), &[&run("c1")]).2.restarted,
        Some(Restart::Checkpoint(1))
    );
    assert_eq!(
        answers(&[&run("c9"), &run("x"), "vRun;;zz"])[..],
        ["E.Checkpoint 9 not found.", "E16", "E16"]
    );
}

#[test]
fn commands() {
    let command = |name: &str, args: &[&str]| {
        let args: String = args.iter().map(|arg| format!(":{}", hexed(arg))).collect();
        format!("qRRCmd:{name}:1000{args}")
    };
    assert_eq!(answer(&command("when", &[])), hexed("Completed event: 0"));
    assert_eq!(answer("qRRCmd:when:-1"), hexed("Completed event: 0"));
    assert_eq!(
        answer(&command("checkpoint", &["main ()"])),
        hexed("Checkpoint 1 at main ()")
    );
    assert_eq!(
        answer(&command("nothing", &[])),
        hexed("there is no command nothing")
    );
    assert_eq!(
        answers(&["qRRCmd", "qRRCmd:when", "qRRCmd:when:x", "qRRCmd:when:1:z"])[..],
        ["E16"; 4]
    );
    assert_eq!(
        answer(&format!("qRcmd,{}", hexed("when now"))),
        hexed("Completed event: 0\n")
    );
    let (.., mock) = session(Mock::default(), &[&command("checkpoint", &["a", ""])]);
    assert_eq!(
        mock.commands,
        [("checkpoint".into(), Some(FIRST), vec!["a".into(), String::new()])]
    );
    // A move: done by the next resumption, whatever that is.
    let moves = answers(&[
        &command("rr-next", &["run", "9"]),
        "bc",
        "p0",
        &command("rr-next", &["back"]),
        "vCont;s",
        "p0",
        "vCont;s",
    ]);
    assert_eq!(
        [&moves[0], &short(&moves[1])[..], &moves[2][..2]],
        ["OK", "T00thread:p3e8.3e9;", "09"]
    );
    assert_eq!(
        [&moves[5][..2], &short(&moves[6])[..]],
        ["00", "T05thread:p3e8.3e8;"]
    );
    let failed = answers(&[&command("rr-next", &["run", "c7"]), "vCont;c"]);
    assert_eq!(failed[1], format!("O{}", hexed("rr: Checkpoint 7 not found.\n")));
    let stays = answers(&[
        &command("rr-next", &["run", "9"]),
        &command("rr-stay", &[]),
        "vCont;s:p3e8.3e8",
        "p0",
    ]);
    assert_eq!(&stays[3][..2], "01");
}

#[test]
fn files() {
    let open = |path: &str, flags: &str| format!("vFile:open:{},{flags},1a4", hexed(path));
    let maps = answers(&[
        "vFile:setfs:0",
        &open("/proc/1000/maps", "0"),
        "vFile:pread:3,100,9",
        "vFile:fstat:3",
        "vFile:close:3",
        "vFile:close:3",
    ]);
    assert_eq!(maps[..2], ["F0", "F3"]);
    assert!(maps[2].starts_with("F46;00402000 r-xp"), "{}", maps[2]);
    assert!(maps[3].starts_with("F40;"), "{}", maps[3]);
    assert_eq!(maps[4..], ["F0", "F-1,9"]);
    assert_eq!(answer(&open("/etc/passwd", "0")), "F-1,2");
    assert_eq!(answer(&open("/mock/file", "0")), "F3");
    assert_eq!(answer(&open("/mock/file", "2")), "F-1,1e");
    assert_eq!(answer(&open("/mock/file", "601")), "F-1,1e");
    assert_eq!(answer("vFile:pwrite:3,0,x"), "F-1,1e");
    assert_eq!(
        answer(&format!("vFile:readlink:{}", hexed("/proc/1000/exe"))),
        "Fd;/mock/program"
    );
    assert_eq!(
        answers(&["vFile:open:zz", "vFile:what:1", "vFile", "vFile:pread:1"])[..],
        ["F-1,16", "", "E16", "F-1,16"]
    );
}

#[test]
fn transfers_and_the_rest() {
    assert_eq!(answer("qXfer:exec-file:read::0,100"), "l/mock/program");
    assert_eq!(answer("qXfer:auxv:read::0,8").len(), 9);
    assert!(answer("qXfer:features:read:target.xml:0,40").starts_with("m<?xml"));
    let asked = [
        "qXfer:features:read:x:0,9",
        "qXfer:siginfo:read::0,2",
        "qXfer:siginfo:write::0:x",
        "qXfer:what:read::0,1",
        "qXfer:auxv:read::x",
    ];
    assert_eq!(answers(&asked)[..], ["E03", "m\u{b}\u{b}", "", "", "E16"]);
    for unknown in ["", "vMustReplyEmpty", "qTStatus", "qOffsets", "~", "j", "v", "q"] {
        assert_eq!(answer(unknown), "", "{unknown}");
    }
    assert_eq!(
        answers(&["qAttached:3e8", "vCont?"])[..],
        ["1", "vCont;c;C;s;S;t;r"]
    );
    // Symbols are asked for one after the other; nothing is known in the end.
    let asked = answers(&[
        "qSymbol::",
        "qSymbol::00",
        "qSymbol:10:7a",
        "qSymbol::00",
        "qSymbol::00",
        "qGetTLSAddr:p3e8.3e8,8,7000",
    ]);
    assert!(
        asked[..4].iter().all(|packet| packet.starts_with("qSymbol:5f")),
        "{asked:?}"
    );
    assert_eq!(asked[4..], ["OK", "E03"]);
}

#[test]
fn an_interrupt_stops_a_program_and_so_does_a_client_that_vanishes() {
    let mut mock = Mock::endless();
    let (mut client, server) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let served = std::thread::spawn(move || {
        let mut connection = Connection::new(Box::new(server));
        serve(&mut connection, &mut mock).map(|ended| (ended, mock.current()))
    });
    client.write_all(&encode(b"vCont;c")).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    client.write_all(b"\x03").unwrap();
    let mut start = [0; 5];
    client.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"+$T02");
    client.write_all(&encode(b"vCont;c")).unwrap();
    drop(client);
    assert_eq!(served.join().unwrap().unwrap(), (Ended::Vanished, Some(FIRST)));
}

#[test]
fn a_thread_that_runs_alone_is_the_one_that_stops() {
    // The other thread comes to the breakpoint first.
    let replies = answers(&["Z0,401008,1", "vCont;s:p3e8.3e9", "vCont;s:p3e8.3e9;c:p3e8.-1"]);
    assert_eq!(short(&replies[1]), "T05swbreak:;thread:p3e8.3e9;");
    let replies = answers(&["Z0,401008,1", "vCont;s:p3e8.3e9;c"]);
    assert_eq!(short(&replies[1]), "T05swbreak:;thread:p3e8.3e8;");
    let replies = answers(&["vCont;s:3e8", "Hcp3e8.3e9", "bs"]);
    assert_eq!(short(&replies[2]), "T05replaylog:begin;thread:p3e8.3e9;");
}

#[test]
fn steps_are_of_the_thread_that_is_meant() {
    let step = |packets: &[&str]| session(Mock::default(), packets).2.now;
    // The second thread's first instruction is the fourth.
    assert_eq!(step(&["vCont;c:3e8;s:3e9"]), 4);
    assert_eq!(step(&["Hc3e9", "s"]), 4);
    assert_eq!(step(&["Hc3e9", "s", "bs"]), 3);
    assert_eq!(step(&["vCont;s:3e8"]), 1);
    assert_eq!(step(&["vCont;S05:3e8;C05"]), 1);
    assert_eq!(step(&["vCont;t"]), 0);
    assert_eq!(
        step(&["vCont;s:7", "vCont", "vCont;", "vCont;y", "vCont;r1:3e8"]),
        0
    );
}

#[test]
fn thread_local_variables_are_where_glibc_says() {
    // glibc's words about itself at 0x402100, a link map at 0x402200, the vector at 0x402300, its block at 0x5000.
    let words = |words: &[u32]| hex::encode(&words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>());
    let about = words(&[64, 1, 8, 64, 1, 0x10, 128, 1, 0, 64, 1, 0]);
    let write = |addr: u32, text: &str| format!("M{addr:x},{:x}:{text}", text.len() / 2);
    let found = |addr: u32, name: &str| format!("qSymbol:{addr:x}:{}", hexed(name));
    let packets = [
        write(0x40_2100, &about),
        // Module 2.
        write(0x40_2210, &words(&[2, 0])),
        // The thread's own block begins at 0x402280.
        write(0x40_2288, &words(&[0x40_2300, 0])),
        write(0x40_2320, &words(&[0x5000, 0])),
        "P3a=8022400000000000".into(),
        "qSymbol::".into(),
        found(0x40_2100, "_thread_db_pthread_dtvp"),
        found(0x40_210c, "_thread_db_link_map_l_tls_modid"),
        found(0x40_2118, "_thread_db_dtv_dtv"),
        found(0x40_2124, "_thread_db_dtv_t_pointer_val"),
        "qGetTLSAddr:p3e8.3e8,c,402200".into(),
        // Not allocated.
        write(0x40_2320, &words(&[u32::MAX, u32::MAX])),
        "qGetTLSAddr:p3e8.3e8,c,402200".into(),
    ];
    let packets: Vec<&str> = packets.iter().map(String::as_str).collect();
    let replies = answers(&packets);
    assert_eq!([&replies[10][..], &replies[12]], ["500c", "E03"], "{replies:?}");
}

#[test]
fn breakpoints_of_a_child_are_not_ours() {
    let packets = [
        "Z0,401008,1",
        "Hgp10.10",
        "z0,401008,1",
        "D;10",
        "Hgp3e8.3e8",
        "c",
    ];
    let replies = answers(&packets);
    assert_eq!(replies[1..5], ["E03", "OK", "OK", "OK"]);
    assert_eq!(short(&replies[5]), "T05swbreak:;thread:p3e8.3e8;");
}

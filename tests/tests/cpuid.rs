//! `CPUID` is answered from the trace: by the library, by instructions that trap in its place, and where the processor can be made
//! to trap.

use std::ffi::{OsStr, OsString};
use std::fs;

use rr_tests::gdb::{Debugged, Program};
use rr_tests::guest::Guest;
use rr_tests::rr::{Recording, Rr, words};
use rr_tracee::cpus::Cpus;

/// Hides nothing, but wants all code to be intercepted.
const INTERCEPT: &str = "--disable-cpuid-features=0";

/// Records as on a machine that cannot make the instruction trap.
const WITHOUT: &str = "--disable-cpuid-faulting";

fn guest(rr: &Rr, name: &str) -> Vec<std::ffi::OsString> {
    words([rr.reachable(&Guest::build(name).path)])
}

fn lines(recording: &Recording<'_>) -> Vec<String> {
    let out = recording.run.out();
    out.lines().map(str::to_owned).collect()
}

/// Where the processor can be made to trap, hiding features (here: none) intercepts code that rr knows nothing about, too. No
/// replay lets the instruction trap: a debug register finds it.
#[test]
fn all_code_is_intercepted() {
    let rr = Rr::new();
    for name in [
        "cpuid",
        "cpuid_places",
        "cpuid_denied",
        "cpuid_steps",
        "cpuid_loop",
    ] {
        for (interval, more) in [("7e", &[][..]), ("50e", &["-n"]), ("50e", &[WITHOUT])] {
            let options = [
                &[INTERCEPT, "--checkpoint-interval", interval, "--checkpoint-wait"][..],
                more,
            ]
            .concat();
            let recording = rr.record(&options, &guest(&rr, name));
            assert!(recording.run.status.success(), "{}", recording.run.describe());
            let is_intercepted = recording.info().cpuid_faulting;
            assert!(!is_intercepted || more != [WITHOUT], "{name}");
            let replay = recording.replay(&[]).expect_success();
            assert_eq!(replay.out(), recording.run.out(), "{name} {more:?}");
            recording.verify();
        }
    }
}

/// The library answers a place that is used often, and a debugger can go there by single steps.
#[test]
fn the_library_answers() {
    let rr = Rr::new();
    let recording = rr.record(&[], &guest(&rr, "cpuid_loop"));
    let dump = recording.rr(&["dump", "-b"]).expect_success().out();
    let count = |what: &str| dump.lines().filter(|line| line.contains(what)).count();
    assert!(count("syscall:'cpuid'") > 800, "{}", count("syscall:'cpuid'"));
    let traps = count("INSTRUCTION_TRAP");
    assert!(
        (1000..2000).contains(&traps),
        "those that jump to the instruction: {traps}"
    );
}

#[test]
fn features_are_hidden() {
    let rr = Rr::new();
    let options = [
        "--disable-cpuid-features=0x100000",
        "--disable-cpuid-features-ext=32",
        "--disable-avx-512",
    ];
    let recording = rr.record(&options, &guest(&rr, "cpuid_hidden"));
    let none = "sse4.2 0 avx2 0 avx512f 0";
    let seen = lines(&recording);
    assert_eq!(
        seen[..2],
        [format!("compiled: {none}"), format!("library: {none}")]
    );
    let can_trap = recording.info().cpuid_faulting;
    if can_trap {
        assert_eq!(seen[2], format!("made: {none}"));
        assert_eq!(recording.run.err(), "");
    } else {
        assert!(recording.run.err().contains("cannot be made to trap on CPUID"));
    }
    let replay = recording.replay(&[]).expect_success();
    assert_eq!(replay.out(), recording.run.out());
    recording.verify();
    // Without the options the program sees the processor.
    let plain = rr.record(&[], &guest(&rr, "cpuid_hidden"));
    let has = |feature: bool| u32::from(feature);
    let (sse, avx, avx512) = (
        has(std::is_x86_feature_detected!("sse4.2")),
        has(std::is_x86_feature_detected!("avx2")),
        has(std::is_x86_feature_detected!("avx512f")),
    );
    let expected = format!("sse4.2 {sse} avx2 {avx} avx512f {avx512}");
    let seen = lines(&plain);
    assert_eq!(seen[0], format!("compiled: {expected}"));
    assert_eq!(seen[2], format!("made: {expected}"));
    assert!(!plain.info().cpuid_faulting);
}

/// A recording says whether the program can see on which CPU it runs. If it cannot, any CPU replays it: in code that is not
/// rewritten, `cpuid` would tell this program another number.
#[test]
fn a_replay_runs_on_any_cpu_if_the_program_cannot_see_which() {
    let cpus = Cpus::survey().all();
    let rr = Rr::new();
    let (hides, shows) = ("cpu_number", "cpu_number_bare");
    for (guest_name, argument, is_hidden) in [
        (hides, None, true),
        (hides, Some("made"), false),
        (shows, None, false),
    ] {
        let command: Vec<OsString> = guest(&rr, guest_name)
            .into_iter()
            .chain(argument.map(OsString::from))
            .collect();
        for (cpu, more) in [(cpus[0], &[][..]), (cpus[cpus.len() - 1], &["-n"])] {
            let bind = format!("--bind-to-cpu={cpu}");
            let options = [
                &[&*bind, "--checkpoint-interval", "3e", "--checkpoint-wait"][..],
                more,
            ]
            .concat();
            let recording = rr.record(&options, &command);
            assert!(recording.run.status.success(), "{}", recording.run.describe());
            assert_eq!(
                recording.info().cpu_hidden,
                is_hidden,
                "{guest_name} {argument:?} {more:?}"
            );
            for here in cpus.iter().filter(|here| is_hidden || **here == cpu) {
                let here = here.to_string();
                let command = [
                    OsStr::new("taskset"),
                    OsStr::new("-c"),
                    OsStr::new(&here),
                    rr.bin().as_os_str(),
                ];
                let replay = [OsStr::new("replay"), OsStr::new("-a"), recording.dir.as_os_str()];
                let replay = rr.native(&words([&command[..], &replay].concat()), rr.home());
                assert_eq!(
                    replay.expect_success().out(),
                    recording.run.out(),
                    "{guest_name} on {here}"
                );
            }
            recording.verify();
        }
    }
}

/// Transactions end as it happens, and rr cannot record that: programs are not shown them.
#[test]
fn transactions_are_not_shown() {
    let rr = Rr::new();
    let trace = rr.record(&[], &guest(&rr, "cpuid_hidden")).dir;
    let shown = rr_trace::TraceReader::open(&trace)
        .unwrap()
        .header()
        .cpuid
        .get(7, 0);
    let [_, b, c, d] = shown.unwrap_or_default();
    assert_eq!((b & (1 << 4 | 1 << 11), c & 1 << 5, d & 1 << 16), (0, 0, 0));
}

#[test]
fn masks_that_are_none_are_refused() {
    let rr = Rr::new();
    for option in [
        "--disable-cpuid-features=1,2,3",
        "--disable-cpuid-features=x",
        "--disable-cpuid-features-xsave=1,2",
        "--disable-cpuid-features-ext=0x1ffffffff",
    ] {
        let run = rr.rr(["record", option, "true"]);
        assert!(!run.status.success(), "{}", run.describe());
        assert!(
            run.err().contains("--disable-cpuid-features"),
            "{}",
            run.describe()
        );
    }
}

/// A debugger sees the program's own instruction, also where the recorder has put one that traps.
#[test]
fn a_debugger_sees_the_instruction() {
    let rr = Rr::new();
    for options in [&[][..], &["-n"], &[INTERCEPT]] {
        let odd = Debugged::record(&rr, options, &Program::c("odd"));
        odd.check(
            &[],
            &[
                ("handle SIGUSR1 nostop noprint pass", ""),
                ("break identify", "Breakpoint 1"),
                ("continue", "Breakpoint 1, identify ()"),
                ("python here = gdb.newest_frame().pc()", ""),
                (
                    "python code = bytes(gdb.selected_inferior().read_memory(here, 64))",
                    "",
                ),
                (
                    "python print(b'\\x0f\\xa2' in code, b'\\x0f\\x09' in code)",
                    "True False",
                ),
                (
                    "python gdb.execute('break *%d' % (here + code.index(b'\\x0f\\xa2')))",
                    "Breakpoint 2",
                ),
                ("continue", "Breakpoint 2"),
                ("save before", ""),
                ("print $eax", "= 0"),
                ("stepi", ""),
                (
                    "python print(gdb.newest_frame().pc() == here + code.index(b'\\x0f\\xa2') + 2)",
                    "True",
                ),
                ("print $eax > 0", "= 1"),
                ("reverse-stepi", ""),
                ("same before", ""),
                ("continue", "10 1"),
            ],
        );
    }
}

/// Every processor has the features that a trace of its own needs, so the header is changed to say more.
#[test]
fn what_this_processor_has_not_is_named() {
    let rr = Rr::new();
    let recording = rr.record(&[], &words(["true"]));
    let header = recording.dir.join("header");
    let bytes = fs::read(&header).unwrap();
    let mut changed = rr_trace::Header::from_bytes(&bytes).unwrap();
    let mut entries = changed.cpuid.entries().to_vec();
    // 3DNow! has gone from all processors that have AVX.
    for entry in entries.iter_mut().filter(|entry| entry.leaf == 0x8000_0001) {
        entry.answer[3] |= 1 << 31;
    }
    changed.cpuid = rr_tracee::cpuid::Table::from_entries(entries).unwrap();
    fs::write(&header, changed.to_bytes().unwrap()).unwrap();
    for command in [&["replay", "-a"][..], &["verify"]] {
        let run = recording.rr(command);
        assert!(!run.status.success(), "{}", run.describe());
        assert!(run.err().contains("was shown: 3dnow ("), "{}", run.describe());
    }
}

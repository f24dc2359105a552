//! Threads, families of processes, and programs that crash.

use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program};

use super::MODES;

#[test]
fn threads() {
    let rr = Rr::new();
    for mode in MODES {
        let threads = Debugged::record(&rr, mode, &Program::c("threads"));
        assert_eq!(threads.recorded.out(), "shared 42\n");
        threads.check(
            &[],
            &[
                ("break {look}", ""),
                ("continue", "Breakpoint 1, main ()"),
                ("save look", ""),
                ("info threads", "\"threads\" … \"sleeper\" … \"writer\""),
                (
                    "thread apply all bt",
                    "Thread 3 … writer … Thread 2 … sleeper … Thread 1 … main ()",
                ),
                ("thread 2", ""),
                ("print own", "= 12"),
                ("thread 3", ""),
                ("print own", "= 11"),
                ("thread 1", ""),
                ("print own", "= 7"),
                ("print shared", "= 42"),
                ("same look", ""),
                ("watch shared", "atchpoint 2: shared"),
                (
                    "reverse-continue",
                    "Thread 3 \"writer\" hit … Old value = 42 … New value = 0 … store (value=42)",
                ),
                ("bt", "#0  … store … writer"),
                ("save store", ""),
                ("when-tid", "Current tid: "),
                ("reverse-continue", "No more reverse-execution history"),
                ("continue", "\"writer\" hit … Old value = 0 … New value = 42"),
                ("reverse-stepi", ""),
                ("same store", ""),
                ("delete", ""),
                ("tbreak {look}", ""),
                ("continue", "main ()"),
                ("same look", ""),
                ("next", ""),
                ("set scheduler-locking on", ""),
                ("next", ""),
                ("reverse-next", ""),
                ("set scheduler-locking replay", ""),
                ("handle SIGKILL stop", ""),
                ("continue", ""),
            ],
        );
    }
}

/// A process that was forked executes a program: the exec is found forwards and backwards.
fn goes_back_over_an_exec(family: &Debugged<'_>, process: &str) {
    family.check(
        &["-f", process],
        &[
            ("catch exec", "Catchpoint"),
            ("continue", "exec'd"),
            ("save exec", ""),
            ("break main", ""),
            ("continue", "main (argc=2"),
            ("reverse-continue", "exec'd"),
            ("same exec", ""),
            // gdb has only the symbols of the last program that it has seen.
            ("reverse-continue", "No more reverse-execution history"),
            ("continue", "exec'd"),
            ("same exec", ""),
        ],
    );
}

#[test]
fn families() {
    let rr = Rr::new();
    for mode in MODES {
        let family = Debugged::record(&rr, mode, &Program::c("family"));
        assert_eq!(
            family.recorded.shell_status(),
            5,
            "{}",
            family.recorded.describe()
        );
        let out = family.recorded.out();
        let pids = out.lines().last().expect("a line");
        let (first, second) = pids.split_once(' ').expect("two numbers");
        family.check(
            &["-f", first],
            &[
                ("info threads", "* 1"),
                ("when-tid", &format!("Current tid: {first}\n")),
                ("break in_child", ""),
                ("continue", "in_child (n=7)"),
                ("bt", "in_child (n=7) … main ("),
                ("print where", "= 0"),
                ("reverse-continue", "No more reverse-execution history"),
                ("bt", "fork … main"),
                ("continue", "in_child (n=7)"),
                ("print in_child(9)", "Breakpoint 1, in_child (n=9)"),
                ("kill", "killed"),
            ],
        );
        for process in [second, "again"] {
            family.check(
                &["-p", process],
                &[
                    ("when-tid", &format!("Current tid: {second}\n")),
                    ("break main", ""),
                    ("continue", "main (argc=2"),
                    ("save main", ""),
                    ("tbreak in_child", ""),
                    ("continue", "in_child (n=4)"),
                    ("watch where", ""),
                    ("continue", "Old value = 2 … New value = 4"),
                    ("reverse-continue", "Old value = 4 … New value = 2"),
                    ("reverse-continue", "Old value = 2 … New value = 0"),
                    ("reverse-continue", "main (argc=2"),
                    ("same main", ""),
                    ("info proc exe", "exe = "),
                ],
            );
        }
        family.check(
            &[],
            &[
                ("catch fork", "Catchpoint"),
                ("catch exec", "Catchpoint"),
                ("break main", ""),
                ("continue", "main (argc=1"),
                ("continue", &format!("forked process {first}")),
                ("continue", &format!("forked process {second}")),
                ("save second", ""),
                ("reverse-continue", &format!("forked process {first}")),
                ("continue", &format!("forked process {second}")),
                ("same second", ""),
                ("delete", ""),
                ("continue", "executed x"),
                ("continue", "exited with code 05"),
            ],
        );
        goes_back_over_an_exec(&family, second);
        for options in [["-p", "no-such"], ["-f", "1"], ["-p", "1"]] {
            let run = family.run(&options, &[]);
            assert_eq!(run.shell_status(), 2, "{}", run.describe());
        }
    }
}

/// With a checkpoint after each event, a search begins right behind the stop: the search before has to report it.
#[test]
fn stops_at_checkpoints_are_found_backwards() {
    let rr = Rr::new();
    let mode = &["-n", "--checkpoint-interval", "1e", "--checkpoint-wait"];
    let family = Debugged::record(&rr, mode, &Program::c("family"));
    let out = family.recorded.out();
    let (first, second) = out.lines().last().and_then(|line| line.split_once(' ')).unwrap();
    goes_back_over_an_exec(&family, second);
    family.check(
        &[],
        &[
            ("catch fork", "Catchpoint"),
            ("break main", ""),
            ("continue", "main (argc=1"),
            ("continue", &format!("forked process {first}")),
            ("save first", ""),
            ("continue", &format!("forked process {second}")),
            ("save second", ""),
            ("reverse-continue", &format!("forked process {first}")),
            ("same first", ""),
            ("continue", &format!("forked process {second}")),
            ("same second", ""),
            ("stepi", ""),
            ("reverse-continue", &format!("forked process {second}")),
            ("same second", ""),
            ("reverse-continue", &format!("forked process {first}")),
            ("same first", ""),
        ],
    );
}

#[test]
fn crashes() {
    let rr = Rr::new();
    for mode in MODES {
        let crash = Debugged::record(&rr, mode, &Program::c("crash"));
        assert_eq!(crash.recorded.shell_status(), 139);
        crash.check(
            &["-e"],
            &[
                ("bt", "sum ( … main ("),
                ("print node", "(struct list *) 0x10"),
                ("save end", ""),
                ("reverse-continue", "SIGSEGV"),
                ("bt", "sum ( … main ("),
                ("print $_siginfo._sifields._sigfault.si_addr", "0x18"),
                ("save fault", ""),
                ("watch -l nodes[1].next", "atchpoint"),
                (
                    "reverse-continue",
                    "Old value = (struct list *) 0x10 … New value = … damage (node=",
                ),
                ("bt", "damage ( … main ("),
                ("delete", ""),
                ("continue", "SIGSEGV"),
                ("same fault", ""),
                ("continue", ""),
                ("same end", ""),
                ("continue", "terminated with signal SIGSEGV"),
            ],
        );
        let abort = Debugged::record(&rr, mode, &Program::c("crash").arg("abort"));
        assert_eq!(abort.recorded.shell_status(), 134);
        abort.check(
            &["-e"],
            &[
                ("bt", "abort () … main ("),
                ("reverse-continue", "SIGABRT"),
                ("break crash.c:{abort}", ""),
                ("reverse-continue", "Breakpoint 1, main ("),
                ("print nodes[1].next", "0x10"),
                (
                    "last nodes[1].next->next",
                    "last: nodes[1].next->next would lie at 0x10, where there is no memory",
                ),
                ("watch *(long *) 0x3420726562000000", "atchpoint"),
                ("reverse-stepi", "Could not insert hardware watchpoint"),
                ("delete", ""),
                ("last nodes[1].next", "damage (node="),
            ],
        );
    }
}

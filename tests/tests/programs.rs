//! Real programs, recorded with checkpoints, replayed from the start and from checkpoints, verified.
//!
//! By default with small inputs and few replays, for every change; with `RR_TESTS=full` at full size, with
//! more intervals, replayed from every checkpoint (`scripts/test --full`).

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use rr_tests::matrix::{Plan, as_strs, check_recording, record_options, same};
use rr_tests::programs::{self, shell};
use rr_tests::rr::words;
use rr_tests::{Ending, Rr, full};

/// Selects one of two values: for every change, or for the full run.
fn size<T>(quick: T, all: T) -> T {
    if full() { all } else { quick }
}

fn rr() -> Rr {
    Rr::new().with_limit(Duration::from_secs(size(240, 1800)))
}

/// Records a program with each interval and checks everything. If `stable`, the output must be equal to
/// that of a native run.
fn check(rr: &Rr, intervals: &[u64], stable: bool, setup: impl Fn(&Path), program: &[OsString]) {
    let plan = Plan::program(intervals);
    let native_dir = rr.new_dir();
    setup(&native_dir);
    let native = rr.native(program, &native_dir).expect_success();
    for interval in &plan.intervals {
        let dir = rr.new_dir();
        setup(&dir);
        let recording = rr.record_in(&as_strs(&record_options(&plan, *interval)), program, &dir);
        if stable {
            same(
                "recorded and native output",
                &recording.run.stdout,
                &native.stdout,
            );
        }
        check_recording(&recording, &plan, *interval);
        recording.remove();
        let _ = std::fs::remove_dir_all(dir);
    }
}

fn nothing(_: &Path) {}

#[test]
fn ls_recursive() {
    let dir = size("/usr/share/perl", "/usr/share");
    check(
        &rr(),
        size(&[1000], &[1000, 200]),
        true,
        nothing,
        &words(["/bin/ls", "-lR", dir]),
    );
}

#[test]
fn find_grep_sort() {
    let dir = size("/usr/include/linux", "/usr/include");
    let script = format!("find {dir} -name '*.h' | xargs grep -l main | sort | head");
    check(&rr(), size(&[1000], &[1000, 200]), true, nothing, &shell(&script));
}

#[test]
fn tar_gzip_tar() {
    check(
        &rr(),
        size(&[200], &[1000, 200, 1]),
        true,
        |dir| programs::tree(&dir.join("tree"), size(200, 2000)),
        &shell("tar c tree | gzip -9 | tar tz"),
    );
}

#[test]
fn sha256sum() {
    let setup = |dir: &Path| programs::text_file(&dir.join("data"), size(4 << 20, 20 << 20));
    check(
        &rr(),
        size(&[20], &[200, 1]),
        true,
        setup,
        &words(["/usr/bin/sha256sum", "data"]),
    );
}

#[test]
fn gzip() {
    let setup = |dir: &Path| programs::text_file(&dir.join("data"), size(2 << 20, 20 << 20));
    check(
        &rr(),
        size(&[20], &[200, 1]),
        true,
        setup,
        &shell("gzip -9 data && gunzip data.gz && cksum data"),
    );
}

#[test]
fn shell_loop() {
    let script = format!("for i in $(seq {}); do /bin/true; done; echo $i", size(30, 100));
    check(
        &rr(),
        size(&[200], &[1000, 200, 1]),
        true,
        nothing,
        &shell(&script),
    );
}

#[test]
fn sqlite() {
    let rows = size(5000, 100_000);
    let setup = |dir: &Path| std::fs::write(dir.join("in.sql"), programs::sql(rows)).unwrap();
    check(
        &rr(),
        size(&[200], &[1000, 200]),
        false,
        setup,
        &shell("sqlite3 test.db < in.sql"),
    );
}

#[test]
fn git() {
    let setup = |dir: &Path| programs::tree(dir, size(60, 1000));
    check(
        &rr(),
        size(&[1000], &[1000, 200]),
        false,
        setup,
        &shell(programs::GIT),
    );
}

#[test]
fn gcc() {
    let setup = |dir: &Path| std::fs::write(dir.join("big.c"), programs::c_source(size(60, 400))).unwrap();
    check(
        &rr(),
        size(&[200], &[1000, 200, 20]),
        true,
        setup,
        &shell("gcc -O1 -c big.c && cksum < big.o"),
    );
}

#[test]
fn python() {
    let setup = |dir: &Path| std::fs::write(dir.join("script.py"), programs::python_script()).unwrap();
    check(
        &rr(),
        size(&[200], &[1000, 200, 20]),
        false,
        setup,
        &words(["/usr/bin/python3", "script.py"]),
    );
}

#[test]
fn perl() {
    let setup = |dir: &Path| programs::text_file(&dir.join("data"), size(2 << 20, 20 << 20));
    let script = "perl -ne '$w{$_}++ for split; END { print \"$_ $w{$_}\\n\" for (sort { $w{$b} <=> $w{$a} || $a cmp $b } keys %w)[0..9] }' data";
    check(&rr(), size(&[100], &[200, 20]), true, setup, &shell(script));
}

#[test]
fn awk() {
    let setup = |dir: &Path| programs::text_file(&dir.join("data"), size(2 << 20, 20 << 20));
    let script =
        "awk '{ for (i = 2; i <= NF; i++) n[$i] += $1 } END { for (w in n) print w, n[w] }' data | sort";
    check(&rr(), size(&[100], &[200, 20]), true, setup, &shell(script));
}

/// Exit statuses of real shells: 0, 7, death by SIGSEGV of the program and of its child.
#[test]
fn statuses() {
    let rr = rr();
    for (script, ending) in [
        ("exit 0", Ending::Exit(0)),
        ("echo $$; exit 7", Ending::Exit(7)),
        ("kill -SEGV $$", Ending::Signal(11)),
        ("sh -c 'kill -SEGV $$'; echo $?", Ending::Exit(0)),
        ("kill -KILL $$", Ending::Signal(9)),
    ] {
        let mut plan = Plan::program(&[1, 20]);
        plan.intervals.push(None);
        plan.ending = ending;
        for interval in &plan.intervals {
            let recording = rr.record(&as_strs(&record_options(&plan, *interval)), &shell(script));
            check_recording(&recording, &plan, *interval);
            recording.remove();
        }
    }
}

/// Recording works as user `nobody`, because rr needs no privilege. (Tested only if the tests run as
/// root.)
#[test]
fn as_an_unprivileged_user() {
    let Some(rr) = Rr::unprivileged() else {
        eprintln!("the tests run as an unprivileged user already");
        return;
    };
    let rr = rr.with_limit(Duration::from_secs(size(240, 1800)));
    let id = rr.record(&[], &words(["/usr/bin/id", "-u"]));
    assert_eq!(
        id.run.out().trim(),
        rr_tests::rr::NOBODY.to_string(),
        "{}",
        id.run.describe()
    );
    for name in [
        "hello",
        "fork_tree",
        "mmap_mix",
        "exec_chain",
        "pipe_big",
        "segv",
        "shared_file",
    ] {
        let guest = rr_tests::Guest::build(name);
        let mut plan = Plan::guest(guest.ending);
        plan.intervals = vec![None, Some(1), Some(20)];
        rr_tests::matrix::check_guest(&rr, &guest, &plan);
    }
    let plan = Plan::program(size(&[200], &[1000, 200]));
    for interval in &plan.intervals {
        let options = record_options(&plan, *interval);
        let dir = rr.new_dir();
        std::fs::write(dir.join("in.sql"), programs::sql(size(2000, 100_000))).unwrap();
        for script in [
            "sqlite3 test.db < in.sql",
            "for i in $(seq 20); do /bin/true; done",
        ] {
            let recording = rr.record_in(&as_strs(&options), &shell(script), &dir);
            check_recording(&recording, &plan, *interval);
            recording.remove();
        }
    }
}

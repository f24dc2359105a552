//! `rr sources` and `rr explicit-sources`: source files by the debug information of binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

use rr_tests::Rr;
use rr_tests::rr::words;
use serde_json::Value;

/// A directory with a program `prog` of the source `dir/prog.c`.
fn compiled(rr: &Rr, flags: &[&str]) -> PathBuf {
    let dir = rr.new_dir().canonicalize().unwrap();
    std::fs::create_dir(dir.join("dir")).unwrap();
    let source = "#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 0; }\n";
    std::fs::write(dir.join("dir/prog.c"), source).unwrap();
    let args = ["-g", "-O1", "-o", "prog", "dir/prog.c"];
    in_dir(rr, &dir, "gcc", &[&args, flags].concat());
    dir
}

fn in_dir(rr: &Rr, dir: &Path, tool: &str, args: &[&str]) {
    rr_tests::run(Command::new(tool).args(args).current_dir(dir), rr.limit).expect_success();
}

fn json(run: rr_tests::Run) -> Value {
    serde_json::from_str(&run.expect_success().out()).expect("JSON")
}

/// The sources of a binary, with options.
fn explicit(rr: &Rr, binary: &Path, options: &[&str]) -> Value {
    let binary = binary.to_str().unwrap();
    json(rr.rr([&["explicit-sources"], options, &[binary]].concat()))
}

#[track_caller]
fn assert_has(list: &Value, wanted: &Path) {
    let has = list
        .as_array()
        .unwrap()
        .iter()
        .any(|path| path == wanted.to_str().unwrap());
    assert!(has, "{} is not in {list:#}", wanted.display());
}

#[test]
fn sources_of_a_binary() {
    let rr = Rr::new();
    let dir = compiled(&rr, &[]);
    let found = explicit(&rr, &dir.join("prog"), &[]);
    assert_has(&found["files"], &dir.join("dir/prog.c"));
    assert_has(&found["relevant_binaries"], &dir.join("prog"));
    assert_eq!(found["dwos"], serde_json::json!([]));
    // In another directory: under the name of the library only.
    let elsewhere = explicit(&rr, &dir.join("prog"), &["--substitute=prog=/elsewhere"]);
    assert_has(&elsewhere["files"], Path::new("/elsewhere/dir/prog.c"));
    let other = explicit(&rr, &dir.join("prog"), &["--substitute=other=/elsewhere"]);
    assert_eq!(other["files"], found["files"]);
    // Without debug information there is nothing to find.
    in_dir(&rr, &dir, "strip", &["prog"]);
    let nothing = explicit(&rr, &dir.join("prog"), &[]);
    assert_eq!(nothing["files"], serde_json::json!([]));
    assert_eq!(nothing["relevant_binaries"], serde_json::json!([]));
    rr.rr(["explicit-sources", "/no/such/file"]).expect_status(1);
}

#[test]
fn sources_of_a_recording() {
    let rr = Rr::new();
    let dir = compiled(&rr, &["-gz"]);
    let recording = rr.record(&rr_tests::NO_CHECKPOINTS, &words([dir.join("prog")]));
    // The trace has the binary. A link leads to the source.
    std::fs::remove_file(dir.join("prog")).unwrap();
    std::fs::rename(dir.join("dir"), dir.join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", dir.join("dir")).unwrap();
    let found = json(recording.rr(&["sources"]));
    assert_has(&found["relevant_binaries"], &dir.join("prog"));
    assert_has(&found["files"], &dir.join("moved/prog.c"));
    let link = serde_json::json!({ "from": dir.join("dir/prog.c"), "to": dir.join("moved/prog.c") });
    assert!(found["symlinks"].as_array().unwrap().contains(&link), "{found:#}");
    // A gdb script names another place.
    let script = dir.join("script");
    let line = format!("set substitute-path {} /elsewhere\n", dir.display());
    std::fs::write(&script, line).unwrap();
    let option = format!("--gdb-script={}", script.display());
    let found = json(recording.rr(&["sources", &option]));
    assert_has(&found["files"], Path::new("/elsewhere/dir/prog.c"));
}

#[test]
fn debug_information_in_files_of_its_own() {
    let rr = Rr::new();
    let dir = compiled(&rr, &["-gsplit-dwarf"]);
    let found = explicit(&rr, &dir.join("prog"), &[]);
    let split = &found["dwos"][0];
    assert!(split["name"].as_str().unwrap().ends_with(".dwo"), "{found:#}");
    assert_eq!(split["comp_dir"], dir.to_str().unwrap());
    let dir = compiled(&rr, &[]);
    in_dir(&rr, &dir, "objcopy", &["--only-keep-debug", "prog", "prog.debug"]);
    in_dir(&rr, &dir, "strip", &["prog"]);
    in_dir(&rr, &dir, "objcopy", &["--add-gnu-debuglink=prog.debug", "prog"]);
    let found = explicit(&rr, &dir.join("prog"), &[]);
    assert_has(&found["files"], &dir.join("dir/prog.c"));
    let separate = &found["external_debug_info"][0];
    assert_eq!(separate["path"], dir.join("prog.debug").to_str().unwrap());
    assert_eq!(separate["type"], "debuglink");
}

//! The committed code is what the schemas give.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// All schemas, in order of name.
fn schemas(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "capnp"))
        .collect();
    all.sort();
    all
}

/// Names of the files in a directory, in order.
fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

#[test]
fn generated_code_is_current() {
    if Command::new("capnp").arg("--version").output().is_err() {
        eprintln!("skipped: the `capnp` tool is not installed (Debian: apt-get install capnproto)");
        return;
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = dir.join("src/generated");
    let fresh = tempfile::tempdir().unwrap();
    let mut command = capnpc::CompilerCommand::new();
    command.src_prefix(dir).import_path(dir).output_path(fresh.path());
    for schema in schemas(dir) {
        command.file(schema);
    }
    command.run().unwrap();

    if std::env::var_os("RR_REGENERATE").is_some_and(|v| v == "1") {
        for name in names(fresh.path()) {
            std::fs::copy(fresh.path().join(&name), committed.join(&name)).unwrap();
            eprintln!("wrote {}", committed.join(&name).display());
        }
        return;
    }
    assert_eq!(
        names(fresh.path()),
        names(&committed),
        "schema/*.capnp and src/generated/ have different files"
    );
    for name in names(fresh.path()) {
        let same =
            std::fs::read(fresh.path().join(&name)).unwrap() == std::fs::read(committed.join(&name)).unwrap();
        assert!(
            same,
            "src/generated/{name} is not what its schema gives; if the schema was changed on purpose:\n\
             RR_REGENERATE=1 cargo test -p rr-schema --test regenerate"
        );
    }
}

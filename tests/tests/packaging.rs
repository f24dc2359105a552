//! The files of a release: archive, package and checksums. (Building the release's binary takes too
//! long for a test, so the binary under test is packed.)

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rr_tests::documents::root;
use rr_tests::programs::is_installed;
use rr_tests::{Rr, Run, run};

const LIMIT: Duration = Duration::from_secs(120);

/// The binary without debug information, which would take a minute to compress.
fn small_binary(rr: &Rr) -> PathBuf {
    let small = rr.new_dir().join("rr");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&small).arg(rr.bin());
    run(&mut strip, LIMIT).expect_success();
    small
}

fn release(binary: &Path, out: &Path) -> Run {
    let mut release = Command::new(root().join("scripts/release"));
    release.arg("-o").arg(out).arg("--binary").arg(binary);
    release.env("SOURCE_DATE_EPOCH", "1700000000");
    // The size does not matter here.
    release.env("RR_RELEASE_COMPRESSION", "0");
    run(&mut release, LIMIT).expect_success()
}

#[test]
fn a_release_is_complete_and_the_same_each_time() {
    if !is_installed("dpkg-deb") {
        eprintln!("skipped: there is no dpkg-deb here");
        return;
    }
    let rr = Rr::new();
    let binary = small_binary(&rr);
    let (one, two) = (rr.new_dir(), rr.new_dir());
    release(&binary, &one);
    // Another second, another umask and another directory make no difference.
    std::thread::sleep(Duration::from_millis(1100));
    release(&binary, &two);
    let sums = |dir: &Path| std::fs::read_to_string(dir.join("SHA256SUMS")).expect("checksums");
    assert_eq!(sums(&one), sums(&two));
    assert_eq!(sums(&one).lines().count(), 3);
    let mut check = Command::new("sha256sum");
    check.args(["-c", "SHA256SUMS"]).current_dir(&one);
    run(&mut check, LIMIT).expect_success();

    let find = |ending: &str| {
        let entries = std::fs::read_dir(&one).unwrap().map(|e| e.unwrap().path());
        entries
            .into_iter()
            .find(|p| p.to_string_lossy().ends_with(ending))
            .expect(ending)
    };
    let unpacked = rr.new_dir();
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("-x").arg(find(".deb")).arg(&unpacked);
    run(&mut dpkg, LIMIT).expect_success();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(find(".tar.gz")).arg("-C").arg(&unpacked);
    tar.args(["--strip-components=1", "--one-top-level=tar"]);
    run(&mut tar, LIMIT).expect_success();
    for prefix in ["usr", "tar"] {
        let prefix = unpacked.join(prefix);
        let version = run(Command::new(prefix.join("bin/rr")).arg("--version"), LIMIT).expect_success();
        assert!(version.out().starts_with("rr version "));
        for file in [
            "share/man/man1/rr.1.gz",
            "share/man/man1/rr-record.1.gz",
            "share/bash-completion/completions/rr",
            "share/zsh/vendor-completions/_rr",
            "share/fish/vendor_completions.d/rr.fish",
        ] {
            assert!(prefix.join(file).metadata().is_ok_and(|m| m.len() > 0), "{file}");
        }
    }
    let mut control = Command::new("dpkg-deb");
    control.arg("-f").arg(find(".deb"));
    let control = run(&mut control, LIMIT).expect_success().out();
    for line in ["Package: rr-rs\n", "Conflicts: rr\n", "Recommends: gdb\n"] {
        assert!(control.contains(line), "{control}");
    }
}

//! Damaged traces: copies to damage, all commands tried on them, and disks that fill up.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::MsFlags;
use nix::sys::resource::{Resource, setrlimit};

use crate::programs::shell;
use crate::{Recording, Rr, Run, run};

/// Records the program whose trace is damaged: some processes, some mapped files, output on both
/// streams.
pub fn victim(rr: &Rr) -> Recording<'_> {
    let script = "for i in 1 2 3; do echo $i $$; /bin/true; done; date; echo done >&2";
    let recording = rr.record(&["--checkpoint-interval", "60e"], &shell(script));
    assert_eq!(recording.run.shell_status(), 0, "{}", recording.run.describe());
    assert!(
        recording.info().checkpoints.len() >= 2,
        "the victim has too few checkpoints"
    );
    recording
}

/// A fresh copy of a trace.
pub fn copy_of(rr: &Rr, dir: &Path) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), &target).unwrap();
            }
        }
    }
    let to = rr.new_dir().join("trace");
    copy(dir, &to);
    to
}

/// All files of a trace, smallest path first.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path))
        } else {
            all.push(path)
        }
    }
    all.sort();
    all
}

/// Runs an rr command on a trace with limited memory. The command must end by itself, with a message if
/// it fails.
#[track_caller]
pub fn careful(rr: &Rr, args: &[&str], dir: &Path) -> Run {
    let mut command = rr.command(args);
    command.arg(dir);
    // SAFETY: setrlimit is a plain system call, allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            setrlimit(Resource::RLIMIT_AS, 4 << 30, 4 << 30)?;
            Ok(())
        });
    }
    let run = run(&mut command, Duration::from_secs(60));
    assert!(!run.err().contains("panicked"), "panic\n{}", run.describe());
    assert!(
        run.status.code().is_some(),
        "died of a signal\n{}",
        run.describe()
    );
    if !run.status.success() {
        assert!(
            !run.err().trim().is_empty(),
            "failed without a word\n{}",
            run.describe()
        );
    }
    run
}

/// Tries all commands on a damaged trace. Those that succeed must not have shown anything wrong.
#[track_caller]
pub fn try_everything(rr: &Rr, what: &str, dir: &Path, original: &Recording<'_>, goto: u64) -> [Run; 4] {
    let goto = goto.to_string();
    let info = careful(rr, &["traceinfo"], dir);
    let replay = careful(rr, &["replay", "-a"], dir);
    let from = careful(rr, &["replay", "-a", "-g", &goto], dir);
    let verify = careful(rr, &["verify"], dir);
    careful(rr, &["dump"], dir);
    careful(rr, &["ps"], dir);
    let out = &original.run.stdout;
    if replay.status.success() {
        let said = replay.err().contains("incomplete") && out.starts_with(&replay.stdout);
        assert!(
            said || replay.stdout == *out,
            "{what}: replay shows something else\n{}",
            replay.describe()
        );
    }
    if from.status.success() && !from.err().contains("incomplete") {
        assert!(
            out.ends_with(&from.stdout),
            "{what}: replay -g shows something else\n{}",
            from.describe()
        );
    }
    [info, replay, from, verify]
}

fn mount(at: &Path, size: &str, flags: MsFlags) -> nix::Result<()> {
    let options = format!("size={size}");
    nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options.as_str()))
}

/// A mounted tmpfs that is unmounted when dropped.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts a tmpfs. `None` if the tests have no right to.
    pub fn mount(at: &Path, size: &str) -> Option<Tmpfs> {
        mount(at, size, MsFlags::empty()).ok()?;
        Some(Tmpfs(at.to_owned()))
    }

    /// Changes the size of the tmpfs.
    pub fn resize(&self, size: &str) {
        mount(&self.0, size, MsFlags::MS_REMOUNT).expect("remount");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount(&self.0);
    }
}

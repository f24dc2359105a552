//! Guest programs: small C sources in `guests/`, compiled when a test needs them.
//!
//! A line `// guest: key=value …` at the top of a source gives the differences from the defaults:
//! `cflags=-a,-b` (compiler and linker flags, in place of `-O1` and the other defaults), `args=a,b`
//! (arguments), `exit=N` or `signal=N` (the ending, natively and recorded; exit status 0 by default),
//! `special` (the guest does not end by itself or needs something from its surroundings, so it has a
//! test of its own and is not in the matrix), `heavy` (it has many events, or its checkpoints hold
//! many tasks or much memory, so the quick run makes none at each event).
//!
//! A hash of everything that a binary is made from is part of its name, so a cached binary is never
//! stale. The binary is moved into place when complete, so tests can compile the same guest at the same
//! time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::run::run;

/// The ending of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// With an exit status.
    Exit(i32),
    /// Killed by a signal.
    Signal(i32),
}

impl Ending {
    /// The status as a shell shows it.
    pub fn shell_status(self) -> i32 {
        match self {
            Ending::Exit(status) => status,
            Ending::Signal(signal) => 128 + signal,
        }
    }

    /// The status as `rr ps` shows it.
    pub fn ps_status(self) -> String {
        match self {
            Ending::Exit(status) => status.to_string(),
            Ending::Signal(signal) => format!("-{signal}"),
        }
    }
}

/// One compiled guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Name: the source's name without `.c`.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Arguments to run it with.
    pub args: Vec<String>,
    /// The expected ending.
    pub ending: Ending,
    /// True if the guest is not for the matrix.
    pub special: bool,
    /// True if a checkpoint at each event is too much for the quick run.
    pub heavy: bool,
}

/// The directory of the sources.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests")
}

/// The names of all guests, sorted.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(sources())
        .expect("the directory of guests")
        .filter_map(|entry| entry.expect("a directory entry").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".c").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// The text of all headers that guests can include.
fn headers() -> String {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(sources())
        .expect("the directory of guests")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "h"))
        .collect();
    paths.sort();
    let read = |path: &PathBuf| std::fs::read_to_string(path).expect("a header");
    paths.iter().map(read).collect()
}

impl Guest {
    /// Compiles a guest, or finds it compiled.
    #[track_caller]
    pub fn build(name: &str) -> Guest {
        let source = sources().join(format!("{name}.c"));
        let text = match std::fs::read_to_string(&source) {
            Ok(text) => text,
            Err(error) => panic!("cannot read {}: {error}", source.display()),
        };
        let header = headers();
        let mut guest = Guest {
            name: name.to_owned(),
            path: PathBuf::new(),
            args: Vec::new(),
            ending: Ending::Exit(0),
            special: false,
            heavy: false,
        };
        let mut flags: Vec<String> = Vec::new();
        let list = |value: &str| value.split(',').map(str::to_owned).collect();
        for word in text
            .lines()
            .filter_map(|line| line.strip_prefix("// guest:"))
            .flat_map(str::split_whitespace)
        {
            match word.split_once('=') {
                Some(("cflags", value)) => flags = list(value),
                Some(("args", value)) => guest.args = list(value),
                Some(("exit", value)) => guest.ending = Ending::Exit(value.parse().expect("exit=N")),
                Some(("signal", value)) => guest.ending = Ending::Signal(value.parse().expect("signal=N")),
                None if word == "special" => guest.special = true,
                None if word == "heavy" => guest.heavy = true,
                _ => panic!("{}: unknown word {word:?}", source.display()),
            }
        }
        guest.path = compile(name, &source, &flags, &(text, header));
        guest
    }

    /// Compiles a source that is not one of our guests, by the same rules.
    #[track_caller]
    pub fn build_source(name: &str, source: &Path) -> PathBuf {
        let text = std::fs::read_to_string(source).expect("a C source");
        compile(name, source, &[], &(text, String::new()))
    }
}

#[track_caller]
fn compile(name: &str, source: &Path, flags: &[String], text: &(String, String)) -> PathBuf {
    const BASE: [&str; 7] = [
        "-std=gnu11",
        "-g",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pthread",
    ];
    let mut hasher = DefaultHasher::new();
    (text, flags, BASE).hash(&mut hasher);
    in_cache(name, hasher.finish(), |part| {
        let mut command = Command::new("gcc");
        command.args(BASE).arg("-o").arg(part).arg(source).args(flags);
        run(&mut command, Duration::from_secs(120)).expect_success();
    })
}

/// Path of an executable in the cache. `make` makes the executable if it does not exist.
pub(crate) fn in_cache(name: &str, version: u64, make: impl FnOnce(&Path)) -> PathBuf {
    // One directory for each version: the executable's own name stays the guest's.
    let dir = cache_dir().join(format!("{name}-{version:016x}"));
    let path = dir.join(name);
    if path.exists() {
        return path;
    }
    std::fs::create_dir_all(&dir).expect("the cache directory for guests");
    let part = tempfile::Builder::new()
        .prefix("part")
        .tempfile_in(&dir)
        .expect("a temporary file")
        .into_temp_path();
    make(&part);
    // A file that somebody executes is never replaced.
    if let Err(error) = std::fs::hard_link(&part, &path) {
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}", path.display());
    }
    path
}

/// The cache beside the test binaries (`target/rr-guests`), so that `cargo clean` removes it.
fn cache_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    // target/<profile>/deps/<test>
    let target = exe
        .ancestors()
        .nth(3)
        .expect("a test binary below the target directory");
    target.join("rr-guests")
}

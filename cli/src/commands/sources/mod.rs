//! `rr sources` and `rr explicit-sources`: the files that a debugger needs to show a program's source code.

mod debug_info;
mod separate;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use debug_info::DebugInfo;
use rr_tracee::{FileId, Prot};
use separate::{Directories, Separate};
use serde_json::json;

use crate::{mapped, traces};

const SHAPE: &str = "The output is JSON: \"relevant_binaries\" are those with debug information; \"external_debug_info\" the files \
    that hold it where the binary does not; \"dwos\" the split units that they name; \"files\" the source files, by their real \
    names where they exist on this machine; \"symlinks\" leads from other names of theirs to the real ones.";

/// Options of both commands.
#[derive(clap::Args, Debug)]
struct Common {
    /// Take PATH for the directory that LIBRARY (the last part of its name) was compiled in
    #[arg(long, value_name = "LIBRARY=PATH", value_parser = substitute)]
    substitute: Vec<(String, PathBuf)>,
}

/// The command line of `rr sources`.
#[derive(clap::Args, Debug)]
#[command(
    about = "List the source files of a recorded program, as JSON",
    long_about = format!("List the source files of the executables and libraries that a recorded program has mapped.\n\n{SHAPE}")
)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Heed the lines `set debug-file-directory` and `set substitute-path` of this gdb script
    #[arg(long, value_name = "FILE")]
    gdb_script: Option<PathBuf>,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// The command line of `rr explicit-sources`.
#[derive(clap::Args, Debug)]
#[command(
    about = "List the source files of executables and libraries, as JSON",
    long_about = format!("List the source files of these executables and libraries.\n\n{SHAPE}")
)]
pub struct ExplicitOptions {
    #[command(flatten)]
    common: Common,
    /// Executables and libraries
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn substitute(text: &str) -> Result<(String, PathBuf), String> {
    let split = text
        .split_once('=')
        .filter(|(library, path)| !library.is_empty() && !path.is_empty());
    let (library, path) = split.ok_or_else(|| format!("{text:?} is not LIBRARY=PATH"))?;
    Ok((library.to_owned(), path.into()))
}

/// The source files and debug information of the binaries.
#[derive(Default)]
struct Found {
    binaries: BTreeSet<PathBuf>,
    separate: BTreeSet<Separate>,
    info: DebugInfo,
}

impl Found {
    /// Adds a binary with this content.
    fn add(&mut self, name: &Path, content: &[u8], directories: &Directories, common: &Common) {
        let (separate, info) = separate::read(name, content, directories);
        if info.is_empty() {
            return;
        }
        let last = name.file_name().unwrap_or_default();
        let compiled_in = common.substitute.iter().rfind(|(library, _)| **library == *last);
        self.binaries.insert(name.to_owned());
        self.separate.extend(separate);
        self.info.add(info, compiled_in.map(|(_, path)| path.as_path()));
    }

    /// Prints everything.
    fn print(self, directories: &Directories) -> Result<ExitCode> {
        let mut symlinks = BTreeMap::new();
        let mut files = BTreeSet::new();
        for name in self.info.sources {
            let name = directories.substituted(name);
            match name.canonicalize() {
                Ok(real) => {
                    if real != name {
                        symlinks.insert(name, real.clone());
                    }
                    files.insert(real);
                }
                // The source is not on this machine.
                Err(_) => {
                    files.insert(name);
                }
            }
        }
        let symlinks: Vec<_> = symlinks
            .iter()
            .map(|(from, to)| json!({ "from": from, "to": to }))
            .collect();
        let found = json!({
            "relevant_binaries": self.binaries,
            "external_debug_info": self.separate.iter().map(Separate::json).collect::<Vec<_>>(),
            "dwos": self.info.split.iter().map(debug_info::Split::json).collect::<Vec<_>>(),
            "symlinks": symlinks,
            "files": files,
        });
        println!("{}", serde_json::to_string_pretty(&found)?);
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs `rr sources`.
pub fn run(options: &Options) -> Result<ExitCode> {
    let reader = traces::open(options.trace.as_deref())?;
    let mut directories = Directories::default();
    if let Some(script) = &options.gdb_script {
        let text = std::fs::read_to_string(script);
        directories.heed(&text.with_context(|| format!("cannot read {}", script.display()))?);
    }
    let mut executed: BTreeMap<FileId, BTreeSet<PathBuf>> = BTreeMap::new();
    mapped::for_each(&reader, |mapping, file| {
        if mapping.prot.has(Prot::EXEC) && mapping.name.starts_with('/') {
            executed.entry(file).or_default().insert((&*mapping.name).into());
        }
    })?;
    let mut found = Found::default();
    for (file, names) in executed {
        let mut content = Vec::new();
        reader.open_file(file)?.reader().read_to_end(&mut content)?;
        for name in names {
            found.add(&name, &content, &directories, &options.common);
        }
    }
    found.print(&directories)
}

/// Runs `rr explicit-sources`.
pub fn run_explicit(options: &ExplicitOptions) -> Result<ExitCode> {
    let directories = Directories::default();
    let mut found = Found::default();
    for name in &options.files {
        let content = std::fs::read(name).with_context(|| format!("cannot read {}", name.display()))?;
        let name = std::path::absolute(name)?;
        found.add(&name, &content, &directories, &options.common);
    }
    found.print(&directories)
}

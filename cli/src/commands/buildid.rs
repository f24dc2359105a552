//! `rr buildid`: the build ids of executables and libraries.

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use object::Object;

/// The command line of `rr buildid`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Print the build ids of files",
    long_about = "Read names of ELF files from standard input, one a line, and print the build id of each in hexadecimal digits. \
    The line is empty for a file that has none; a file that cannot be read is an error."
)]
pub struct Options {}

/// The build id of a file, as hexadecimal digits (`NT_GNU_BUILD_ID`, elf(5)).
fn of(path: &Path) -> Result<Option<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let id = object::File::parse(&*bytes).and_then(|file| Ok(file.build_id()?.map(<[u8]>::to_vec)));
    Ok(id.ok().flatten().map(|id| digits(&id)))
}

/// A build id in hexadecimal digits.
pub fn digits(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs the command.
pub fn run() -> Result<ExitCode> {
    for line in std::io::stdin().lock().lines() {
        let name = line.context("cannot read the names of files")?;
        println!("{}", of(Path::new(&name))?.unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

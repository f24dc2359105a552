//! `rr unpack`: a directory out of a pack.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use rr_trace::pack::EXTENSION;

use crate::{interrupt, traces};

/// The command line of `rr unpack`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Make a directory of a packed recording",
    long_about = "Make a directory of a recording that rr pack has put into one file. That is needed only to change it (rr create-checkpoints, \
    rr checkpoints rm): all that read it work on the file in place."
)]
pub struct Options {
    /// The directory to make; without, the file's name without .rrpack, in the working directory
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The file that rr pack has made
    file: PathBuf,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    interrupt::notice();
    let pack = traces::find(Some(&options.file))?;
    let to = options.output.clone().unwrap_or_else(|| {
        let name = match pack.extension() {
            Some(extension) if extension == EXTENSION => pack.file_stem(),
            _ => None,
        };
        let name = name.map(PathBuf::from);
        name.unwrap_or_else(|| {
            PathBuf::from(pack.file_name().unwrap_or_default()).with_added_extension("trace")
        })
    });
    match rr_trace::unpack::unpack(&pack, &to, &interrupt::is_requested) {
        Err(rr_trace::Error::Interrupted) => Ok(interrupt::ended("nothing is left of it")),
        made => {
            made?;
            println!("{}", to.display());
            Ok(ExitCode::SUCCESS)
        }
    }
}

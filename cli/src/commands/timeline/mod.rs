//! `rr timeline`: a recording as a picture, with its tasks as rows over time.
//!
//! [`collect`] reads the events once and keeps a few words of each; [`page`] makes a page for a browser of that, [`chrome`] a
//! file for Chrome's and Perfetto's trace viewers. Nothing is replayed, unless what the program wrote is to be shown
//! ([`output`]).

mod chrome;
mod collect;
mod output;
mod page;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::traces;

/// The command line of `rr timeline`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Make a picture of a recording, for a browser",
    long_about = "Make a page for a browser with the tasks of a recording as rows over time: what ran and what waited in which \
    system call, signals, programs that were executed, exits, output, checkpoints. Zoom with the wheel, drag, search; a click says \
    the event and the command to go there. The page needs no network and no other file. With `--format chrome`, a file for Perfetto \
    (ui.perfetto.dev) or chrome://tracing.\n\nExample: rr timeline trace -o trace.html"
)]
pub struct Options {
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
    /// The file to write (`-`: standard output)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A page for a browser, or a file for Chrome's and Perfetto's trace viewers
    #[arg(long, value_enum, default_value = "html")]
    format: Format,
    /// Replay the recording, to show what the program wrote to standard output and error
    #[arg(long)]
    with_output: bool,
}

/// The kind of file that is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Format {
    /// A page.
    Html,
    /// Chrome's trace event format.
    Chrome,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let reader = traces::open(options.trace.as_deref())?;
    let mut timeline = collect::collect(&reader)?;
    if options.with_output {
        output::add(&mut timeline, &reader)?;
    }
    let is_stdout = options.output.as_os_str() == "-";
    let named = || format!("{}", options.output.display());
    let out: Box<dyn Write> = match is_stdout {
        true => Box::new(std::io::stdout().lock()),
        false => Box::new(File::create(&options.output).with_context(named)?),
    };
    let mut out = BufWriter::new(out);
    match options.format {
        Format::Html => page::write(&mut out, &timeline),
        Format::Chrome => chrome::write(&mut out, &timeline),
    }
    .and_then(|()| Ok(out.flush()?))
    .with_context(named)?;
    Ok(ExitCode::SUCCESS)
}

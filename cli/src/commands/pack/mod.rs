//! `rr pack`: a recording in one file, or many that share what they have in common in one directory.
//!
//! ```text
//! events, mapped files ─► the pack ◄─ checkpoints, but those that --max-size has no room for
//!                            ▲
//!                            └─ debug information of the programs, with --with-debug (debug_info)
//! ```

mod debug_info;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rr_checkpoint::repack::{Repack, scratch_in};
use rr_trace::event::EventNumber;
use rr_trace::pack::{EXTENSION, Pack};
use rr_trace::packing::{PackWriter, directory_of};
use rr_trace::parallel::Asked;
use rr_trace::{Hold, TraceReader};

pub use debug_info::Found;

use crate::secrets::SecretNames;
use crate::separate_debug::DebugDirectories;
use crate::size::Size;
use crate::{interrupt, traces};

/// The command line of `rr pack`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Put a recording into one file",
    long_about = "Put a recording into one file, as small as can be: for archives, bug reports and other machines. All commands that read a \
    recording read the file in place: rr replay FILE. rr unpack makes a directory of it again.\n\n\
    With --pack-dir, many recordings go into one directory, a file each, and share what they have in common: the files that the programs \
    have mapped, and what is alike in their events.\n\n\
    Whoever gets the file gets what was in the program's memory, and its environment: variables that look like secrets are named.\n\n\
    Example: rr pack -o crash.rrpack --max-size 50M my-trace"
)]
pub struct Options {
    /// The file to make; without, the recording's name with .rrpack, in the working directory
    #[arg(short, long, value_name = "FILE", conflicts_with = "pack_dir")]
    output: Option<PathBuf>,
    /// Put the recordings into this directory, where they share what they have in common
    #[arg(long, value_name = "DIR")]
    pack_dir: Option<PathBuf>,
    /// The most that the file may have: bytes, or with K, M, G after the number. Checkpoints are left out, those that are missed
    /// least first, until it fits; events never are
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// Put debug information along that stands apart from the recorded programs (in /usr/lib/debug, in debuginfod's cache): gdb then
    /// shows names and lines on machines that have none of it
    #[arg(long)]
    with_debug: bool,
    /// Look for it in this directory first, as gdb's debug-file-directory (may be repeated)
    #[arg(long, value_name = "DIR", requires = "with_debug")]
    debug_dir: Vec<PathBuf>,
    #[command(flatten)]
    secrets: SecretNames,
    /// Trace directories or names; the latest one if omitted
    traces: Vec<PathBuf>,
}

/// The contents of a pack beside the recording, and its form.
#[derive(Default)]
pub struct Wish {
    /// The most bytes.
    pub max: Option<Size>,
    /// It has parts in common with those beside it.
    pub share: bool,
    /// Debug information.
    pub debug: Found,
}

/// The outcome of packing.
pub struct Packed {
    /// Bytes of the file.
    pub bytes: u64,
    /// Checkpoints in it.
    pub checkpoints: usize,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    interrupt::notice();
    let names: Vec<Option<&Path>> = match &options.traces[..] {
        [] => vec![None],
        traces => traces.iter().map(|trace| Some(trace.as_path())).collect(),
    };
    if names.len() > 1 && options.pack_dir.is_none() {
        bail!("several recordings go into a directory: name it with --pack-dir");
    }
    let packed = names.into_iter().try_for_each(|name| one(name, options));
    match packed {
        Err(_) if interrupt::is_requested() => Ok(interrupt::ended("nothing is left of it")),
        packed => packed.map(|()| ExitCode::SUCCESS),
    }
}

fn one(name: Option<&Path>, options: &Options) -> Result<()> {
    // If it is still being made, nothing of it is deleted meanwhile.
    let _hold = Hold::of(&traces::find(name)?)?;
    let reader = traces::open(name)?;
    let own = own_name(reader.path())?;
    let target = match (&options.pack_dir, &options.output) {
        (Some(dir), _) => {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            match free_name(dir, &own, &reader) {
                Some(path) => path,
                None => {
                    println!("{} is there already", reader.path().display());
                    return Ok(());
                }
            }
        }
        (None, Some(path)) => path.clone(),
        (None, None) => PathBuf::from(&own).with_added_extension(EXTENSION),
    };
    options.secrets.tell(&reader);
    let wish = Wish {
        max: options.max_size,
        share: options.pack_dir.is_some(),
        // A recording that has been packed with it has it already.
        debug: match options.with_debug && reader.debug_files()?.is_empty() {
            true => debug_info::find(
                &reader,
                &DebugDirectories {
                    named: options.debug_dir.clone(),
                },
            )?,
            false => Found::default(),
        },
    };
    let packed = pack(&reader, &target, &wish, &interrupt::is_requested)?;
    if wish.debug.missing > 0 {
        eprintln!(
            "rr: there is no debug information here for {} of the programs and libraries (on Debian: packages that end with -dbgsym)",
            wish.debug.missing
        );
    }
    println!(
        "{}: {}, {} events, {} checkpoints",
        target.display(),
        Size(packed.bytes),
        reader.last_event(),
        packed.checkpoints
    );
    Ok(())
}

/// The name of a recording.
fn own_name(trace: &Path) -> Result<std::ffi::OsString> {
    let real = trace.canonicalize();
    let real = real.with_context(|| format!("cannot find {}", trace.display()))?;
    let is_pack = real.extension() == Some(OsStr::new(EXTENSION));
    let name = if is_pack {
        real.file_stem()
    } else {
        real.file_name()
    };
    Ok(name.unwrap_or(OsStr::new("trace")).to_owned())
}

/// A path for a recording in a directory of packs. `None`: it is there.
fn free_name(dir: &Path, own: &OsStr, reader: &TraceReader) -> Option<PathBuf> {
    for n in 0u32.. {
        let mut name = own.to_owned();
        if n > 0 {
            name.push(format!("-{n}"));
        }
        name.push(format!(".{EXTENSION}"));
        let path = dir.join(name);
        if path.symlink_metadata().is_err() {
            return Some(path);
        }
        if Pack::open(&path).is_ok_and(|pack| *pack.uuid() == reader.header().uuid) {
            break;
        }
    }
    None
}

/// Packs a recording into the file `target`; tells which checkpoints have no room.
pub fn pack(reader: &TraceReader, target: &Path, wish: &Wish, asked: Asked<'_>) -> Result<Packed> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut writer = PackWriter::create(target, reader.header().uuid, asked)?;
    if wish.share {
        writer.share()?;
    }
    writer.add_trace(reader, threads)?;
    if !wish.debug.files.is_empty() {
        writer.add_debug_files(&wish.debug.files)?;
    }
    let most = wish.max.map_or(u64::MAX, |max| max.0);
    let without = writer.length();
    if without > most {
        bail!(
            "{}: its events and mapped files alone take {without} bytes, more than --max-size allows ({most}); nothing was packed",
            reader.path().display()
        );
    }
    let scratch = scratch_in(directory_of(target))?;
    let mut checkpoints = Repack::read(reader, scratch, threads, asked)?;
    for (event, e) in checkpoints.unusable() {
        eprintln!("rr: the checkpoint at event {event} cannot be used, and is left out: {e}");
    }
    // Replay begins at the first checkpoint if the beginning of a recording is gone.
    let first = checkpoints.events().first().copied();
    let kept: Vec<EventNumber> = first.filter(|_| reader.first_event().0 > 1).into_iter().collect();
    let mark = writer.mark();
    let mut dropped = Vec::new();
    loop {
        let expected = checkpoints.bytes();
        checkpoints.write(|event, write| writer.add_checkpoint(event, write))?;
        let length = writer.length();
        if length <= most {
            break;
        }
        writer.back_to(&mark)?;
        // The estimate is right but for the sections of the files; so the next one is likely to fit.
        let scale = (length - without) as f64 / expected.max(1) as f64;
        let mut is_too_long = true;
        while is_too_long {
            let Some(event) = checkpoints.drop_least_missed(&kept) else {
                bail!(
                    "{}: replay begins at the checkpoint at event {}, and with it, events and mapped files take more than --max-size allows \
                    ({most} bytes); nothing was packed",
                    reader.path().display(),
                    kept.first().copied().unwrap_or_default()
                );
            };
            dropped.push(event);
            is_too_long = without as f64 + checkpoints.bytes() as f64 * scale > most as f64;
        }
    }
    let bytes = writer.finish()?;
    dropped.sort_unstable();
    if !dropped.is_empty() {
        let events: Vec<String> = dropped.iter().map(EventNumber::to_string).collect();
        eprintln!(
            "rr: no room for {} of {} checkpoints, those at events {}",
            dropped.len(),
            dropped.len() + checkpoints.events().len(),
            events.join(", ")
        );
    }
    Ok(Packed {
        bytes,
        checkpoints: checkpoints.events().len(),
    })
}

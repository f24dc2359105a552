//! `rr filename`: under which name the recorded program mapped a file that lies in a trace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rr_checkpoint::Checkpoint;
use rr_trace::TraceReader;
use rr_tracee::{Backing, FileId, ObjectId, SpaceOp};

/// The command line of `rr filename`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Print the original name of a file in a trace",
    long_about = "Print the original names of files in a trace (TRACE/files/...): one line each, several if the \
    recorded program mapped files of the same contents."
)]
pub struct Options {
    /// Files in the directory `files` of a trace
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn names(file: &Path) -> Result<BTreeSet<String>> {
    let path = std::path::absolute(file).with_context(|| format!("{}", file.display()))?;
    let (Some(id), Some(trace)) = (path.file_name(), path.parent().and_then(Path::parent)) else {
        bail!("{} is not a file in a trace", file.display());
    };
    let reader = TraceReader::open(trace)?;
    let mut names = BTreeSet::new();
    let mut wanted = BTreeMap::new();
    // If the beginning of the recording is gone, files were mapped before.
    if let Some(begin) = reader.begins_at() {
        let checkpoint = Checkpoint::open_at(&reader, begin, &reader.header().uuid)?;
        let image = checkpoint.image();
        wanted.extend(
            image
                .objects
                .iter()
                .filter_map(|object| Some((object.id, object.content?))),
        );
        for mapping in image.spaces.iter().flat_map(|space| space.space.iter()) {
            if content_of(&mapping.backing, &wanted).is_some_and(|content| *content.to_string() == *id) {
                names.insert(mapping.name.to_string());
            }
        }
    }
    for event in reader.events_from(reader.first_event())? {
        let event = event?;
        let others = event.others.into_iter().map(|(_, op)| op);
        for op in event.ops.into_iter().chain(others) {
            match op {
                SpaceOp::CreateObject {
                    object,
                    content: Some(content),
                    ..
                } => {
                    wanted.insert(object, content);
                }
                SpaceOp::Map(mapping) => {
                    let content = content_of(&mapping.backing, &wanted);
                    if content.is_some_and(|content| *content.to_string() == *id) {
                        names.insert(mapping.name.to_string());
                    }
                }
                _ => {}
            }
        }
    }
    names.remove("");
    Ok(names)
}

/// The file of the trace that a mapping shows; `objects` are those that were made from one.
fn content_of(backing: &Backing, objects: &BTreeMap<ObjectId, FileId>) -> Option<FileId> {
    match backing {
        Backing::File { file, .. } => Some(*file),
        Backing::Shared { object, .. } | Backing::CopyOnWrite { object, .. } => objects.get(object).copied(),
        Backing::Anonymous | Backing::Rr => None,
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    for file in &options.files {
        let names = names(file)?;
        if names.is_empty() {
            bail!("{}: no mapped file of its trace", file.display());
        }
        names.iter().for_each(|name| println!("{name}"));
    }
    Ok(ExitCode::SUCCESS)
}

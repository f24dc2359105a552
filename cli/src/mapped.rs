//! The files of a trace, as the program mapped them.

use std::collections::BTreeMap;

use anyhow::Result;
use rr_checkpoint::Checkpoint;
use rr_trace::TraceReader;
use rr_tracee::{Backing, FileId, Mapping, ObjectId, SpaceOp};

/// Calls `see` with each mapping that shows a file of the trace, and that file.
pub fn for_each(reader: &TraceReader, mut see: impl FnMut(&Mapping, FileId)) -> Result<()> {
    let mut objects = BTreeMap::new();
    // If the beginning of the recording is gone, files were mapped before.
    if let Some(begin) = reader.begins_at() {
        let checkpoint = Checkpoint::open_at(reader, begin, &reader.header().uuid)?;
        let image = checkpoint.image();
        let with_content = image.objects.iter();
        objects.extend(with_content.filter_map(|object| Some((object.id, object.content?))));
        for mapping in image.spaces.iter().flat_map(|space| space.space.iter()) {
            if let Some(file) = content_of(&mapping.backing, &objects) {
                see(mapping, file);
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
                    objects.insert(object, content);
                }
                SpaceOp::Map(mapping) => {
                    if let Some(file) = content_of(&mapping.backing, &objects) {
                        see(&mapping, file);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The file of the trace that a mapping shows; `objects` are those that were made from one.
fn content_of(backing: &Backing, objects: &BTreeMap<ObjectId, FileId>) -> Option<FileId> {
    match backing {
        Backing::File { file, .. } => Some(*file),
        Backing::Shared { object, .. } | Backing::CopyOnWrite { object, .. } => objects.get(object).copied(),
        Backing::Anonymous | Backing::Rr => None,
    }
}

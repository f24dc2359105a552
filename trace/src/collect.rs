//! Deleting what no pack of a directory needs any more from the `objects` that they share (`pack` draws them).
//!
//! Keeps: an object that a pack of the directory refers to stays. A pack that is being written holds the directory of objects
//! (`hold`), so nothing is deleted meanwhile; and nothing is deleted beside a pack that cannot be read.

use std::collections::BTreeSet;
use std::path::Path;

use rr_tracee::FileId;

use crate::dictionary;
use crate::dir::file_of;
use crate::error::{Error, Result};
use crate::hold::Deletion;
use crate::pack::{OBJECTS, Pack, is_pack};

/// Deletes the objects beside the packs in `dir` that none of them needs. Returns the number of bytes that were freed: 0 also while
/// a pack is being written there.
pub fn collect_objects(dir: &Path) -> Result<u64> {
    let objects = dir.join(OBJECTS);
    if !objects.is_dir() {
        return Ok(0);
    }
    let Some(_alone) = Deletion::begin(&objects) else {
        return Ok(0);
    };
    let reading = |path: &Path| {
        let path = path.to_owned();
        move |e| Error::io(&path, "reading", e)
    };
    let mut needed: BTreeSet<FileId> = BTreeSet::new();
    let mut packs = 0;
    for entry in std::fs::read_dir(dir).map_err(reading(dir))? {
        let path = entry.map_err(reading(dir))?.path();
        if path.is_file() && is_pack(&path) {
            needed.extend(Pack::open(&path)?.shared());
            packs += 1;
        }
    }
    let mut freed = 0;
    for entry in std::fs::read_dir(&objects).map_err(reading(&objects))? {
        let entry = entry.map_err(reading(&objects))?;
        let name = entry.file_name();
        let name = Path::new(&name);
        let id = name.file_stem().and_then(|stem| file_of(stem.to_str()?));
        let is_unneeded = match (id, name.extension()) {
            (Some(id), None) => !needed.contains(&id),
            // Only the frames themselves say which dictionary they need. There are few of them.
            (Some(_), Some(extension)) => extension == dictionary::EXTENSION && packs == 0,
            (None, _) => false,
        };
        let bytes = entry.metadata().map_or(0, |meta| meta.len());
        if is_unneeded {
            let deleted = std::fs::remove_file(entry.path());
            deleted.map_err(|e| Error::io(&entry.path(), "deleting", e))?;
            freed += bytes;
        }
    }
    Ok(freed)
}

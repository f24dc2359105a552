//! Debug information of a recording's programs and libraries that stands apart from them, as distributions ship it: found by build id
//! ([`crate::separate_debug`]).

use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;

use anyhow::Result;
use object::read::ReadCache;
use object::{Object, ObjectSection};
use rr_trace::TraceReader;

use crate::commands::buildid::digits;
use crate::separate_debug::DebugDirectories;

const ELF_MAGIC: [u8; 4] = *b"\x7fELF";

/// The debug information that was found for a recording's programs and libraries.
#[derive(Default, Debug)]
pub struct Found {
    /// Build ids in hexadecimal digits, and the files with their debug information.
    pub files: Vec<(String, PathBuf)>,
    /// Programs and libraries that have none, neither inside nor here.
    pub missing: usize,
}

/// Looks for the debug information of all programs and libraries that were mapped.
pub fn find(reader: &TraceReader, directories: &DebugDirectories) -> Result<Found> {
    let mut found = Found::default();
    for file in reader.files()? {
        let mut content = reader.open_file(file)?.reader();
        let mut magic = [0; 4];
        if content.read_exact(&mut magic).is_err() || magic != ELF_MAGIC || content.rewind().is_err() {
            continue;
        }
        let content = ReadCache::new(content);
        let Ok(binary) = object::File::parse(&content) else {
            continue;
        };
        if binary
            .section_by_name(".debug_info")
            .is_some_and(|s| s.size() > 0)
        {
            continue;
        }
        let id = binary.build_id().ok().flatten();
        match id.and_then(|id| Some((id, directories.by_build_id(id)?))) {
            Some((id, path)) => found.add(digits(id), path, directories),
            None => found.missing += 1,
        }
    }
    Ok(found)
}

impl Found {
    /// Adds a file, and the one that it shares with others.
    fn add(&mut self, build_id: String, path: PathBuf, directories: &DebugDirectories) {
        if self.files.iter().any(|(known, _)| *known == build_id) {
            return;
        }
        let content = File::open(&path).ok().map(ReadCache::new);
        let file = content
            .as_ref()
            .and_then(|content| object::File::parse(content).ok());
        if let Some(file) = file
            && let Some(shared) = directories.shared_by(&path, &file)
            && let Ok(Some((_, id))) = file.gnu_debugaltlink()
        {
            self.add(digits(id), shared, directories);
        }
        self.files.push((build_id, path));
    }
}

//! Debug information that stands apart from the programs and libraries of a recording, as distributions ship it: found by build id,
//! where gdb looks for it.
//!
//! ```text
//! DIR/.build-id/xx/yyyy.debug              DIR: /usr/lib/debug, and those of --debug-dir
//! ~/.cache/debuginfod_client/xxyyyy/debuginfo
//! ```
//!
//! A file with debug information may name another one that it shares with others (`.gnu_debugaltlink`): that one goes along.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::Result;
use object::read::{ReadCache, ReadRef};
use object::{Object, ObjectSection};
use rr_trace::TraceReader;

use crate::commands::buildid::digits;

/// Where distributions put it.
const SYSTEM: &str = "/usr/lib/debug";
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";

/// What was found of a recording's programs and libraries.
#[derive(Default, Debug)]
pub struct Found {
    /// Build ids in hexadecimal digits, and the files with their debug information.
    pub files: Vec<(String, PathBuf)>,
    /// Programs and libraries that have none, neither inside nor here.
    pub missing: usize,
}

/// Looks for the debug information of all programs and libraries that were mapped.
pub fn find(reader: &TraceReader, dirs: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    for file in reader.files()? {
        let mut content = reader.open_file(file)?.reader();
        let mut magic = [0; 4];
        if content.read_exact(&mut magic).is_err() || magic != ELF_MAGIC || content.rewind().is_err() {
            continue;
        }
        let Some(elf) = Elf::read(&ReadCache::new(content)) else {
            continue;
        };
        match elf.build_id.and_then(|id| Some((locate(&id, dirs)?, id))) {
            _ if elf.has_debug_info => {}
            Some((path, id)) => add(id, path, dirs, &mut found),
            None => found.missing += 1,
        }
    }
    Ok(found)
}

/// Adds a file, and the one that it shares with others.
fn add(build_id: String, path: PathBuf, dirs: &[PathBuf], found: &mut Found) {
    if found.files.iter().any(|(known, _)| *known == build_id) {
        return;
    }
    let shared = File::open(&path)
        .ok()
        .and_then(|file| Elf::read(&ReadCache::new(file))?.shared);
    if let Some((name, id)) = shared {
        // The name is absolute, or starts where the file is.
        let named = path
            .parent()
            .map(|dir| dir.join(name))
            .filter(|path| path.is_file());
        if let Some(other) = named.or_else(|| locate(&id, dirs)) {
            add(id, other, dirs, found);
        }
    }
    found.files.push((build_id, path));
}

/// The file with the debug information for a build id.
fn locate(build_id: &str, dirs: &[PathBuf]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_at_checked(2)?;
    let name = format!(".build-id/{first}/{rest}.debug");
    let cache = std::env::var_os("DEBUGINFOD_CACHE_PATH")
        .map(PathBuf::from)
        .or_else(|| {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
            Some(cache?.join("debuginfod_client"))
        });
    let mut places = dirs.iter().map(PathBuf::as_path).chain([Path::new(SYSTEM)]);
    places
        .find_map(|dir| Some(dir.join(&name)).filter(|path| path.is_file()))
        .or_else(|| Some(cache?.join(build_id).join("debuginfo")).filter(|path| path.is_file()))
}

/// The parts of an ELF file that matter here.
struct Elf {
    /// In hexadecimal digits.
    build_id: Option<String>,
    has_debug_info: bool,
    /// Name and build id of a file with debug information for several programs.
    shared: Option<(String, String)>,
}

impl Elf {
    fn read<'a>(data: impl ReadRef<'a>) -> Option<Elf> {
        let elf = object::File::parse(data).ok()?;
        let shared = elf.gnu_debugaltlink().ok().flatten();
        Some(Elf {
            build_id: elf.build_id().ok().flatten().map(digits),
            has_debug_info: elf.section_by_name(".debug_info").is_some_and(|s| s.size() > 0),
            shared: shared.map(|(name, id)| (String::from_utf8_lossy(name).into_owned(), digits(id))),
        })
    }
}

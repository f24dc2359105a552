//! The debug information of a binary, wherever it is: in the binary, or in files of its own ([`crate::separate_debug`]).

use std::path::{Path, PathBuf};

use object::Object;

use super::debug_info::DebugInfo;
use crate::commands::buildid::digits;
use crate::separate_debug::DebugDirectories;

/// A file with debug information of another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Separate {
    path: PathBuf,
    build_id: Vec<u8>,
    /// `debuglink` or, for a file that several others share, `debugaltlink`.
    kind: &'static str,
}

impl Separate {
    /// The file as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "path": self.path, "build_id": digits(&self.build_id), "type": self.kind })
    }
}

/// The places of debug information and of sources that the user has named.
#[derive(Debug, Default)]
pub struct Directories {
    /// Directories of debug information.
    debug: DebugDirectories,
    /// Beginnings of names of sources, and what takes their place.
    sources: Vec<(PathBuf, PathBuf)>,
}

impl Directories {
    /// Notes the directories that a gdb script sets.
    pub fn heed(&mut self, script: &str) {
        for line in script.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["set", "debug-file-directory", directories] => {
                    self.debug.named = directories.split(':').map(PathBuf::from).collect();
                }
                ["set", "substitute-path", from, to] => self.sources.push((from.into(), to.into())),
                _ => {}
            }
        }
    }

    /// The name of a source on this machine.
    pub fn substituted(&self, name: PathBuf) -> PathBuf {
        let found = self
            .sources
            .iter()
            .find_map(|(from, to)| Some(to.join(name.strip_prefix(from).ok()?)));
        found.unwrap_or(name)
    }
}

/// Reads the debug information of a binary, wherever it is. Returns the other files that hold some.
pub fn read(name: &Path, content: &[u8], directories: &Directories) -> (Vec<Separate>, DebugInfo) {
    let mut separate = Vec::new();
    let Ok(binary) = object::File::parse(content) else {
        return (separate, DebugInfo::default());
    };
    let has_own = binary.section_by_name(".debug_info").is_some();
    let link = match has_own {
        true => None,
        false => directories.debug.of_binary(Some(name), &binary),
    };
    let linked = link.and_then(|path| Some((std::fs::read(&path).ok()?, path)));
    let debug = match &linked {
        Some((content, path)) => match object::File::parse(&**content) {
            Ok(file) => {
                separate.push(Separate {
                    path: path.clone(),
                    build_id: build_id(&file),
                    kind: "debuglink",
                });
                file
            }
            Err(_) => binary,
        },
        None => binary,
    };
    let at = separate.first().map_or(name, |separate| separate.path.as_path());
    let shared = directories.debug.shared_by(at, &debug);
    let shared = shared.and_then(|path| Some((std::fs::read(&path).ok()?, path)));
    let shared = shared.as_ref().and_then(|(content, path)| {
        let file = object::File::parse(&**content).ok()?;
        Some((file, path.clone()))
    });
    let info = DebugInfo::read(&debug, shared.as_ref().map(|(file, _)| file));
    separate.extend(shared.map(|(file, path)| Separate {
        path,
        build_id: build_id(&file),
        kind: "debugaltlink",
    }));
    (separate, info)
}

fn build_id(file: &object::File<'_>) -> Vec<u8> {
    file.build_id().ok().flatten().unwrap_or_default().to_vec()
}

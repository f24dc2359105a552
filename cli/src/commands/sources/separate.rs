//! Debug information in files of its own, as gdb finds it: by build id, or by the name and checksum in `.gnu_debuglink`.

use std::path::{Path, PathBuf};

use object::Object;

use super::debug_info::DebugInfo;

/// The directory with debug information of a system's packages.
const SYSTEM: &str = "/usr/lib/debug";

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
    /// Directories of debug information, besides that of the system.
    debug: Vec<PathBuf>,
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
                    self.debug = directories.split(':').map(PathBuf::from).collect();
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

    fn debug(&self) -> impl Iterator<Item = &Path> {
        self.debug.iter().map(PathBuf::as_path).chain([Path::new(SYSTEM)])
    }

    /// The file with this build id.
    fn by_build_id(&self, id: &[u8]) -> Option<PathBuf> {
        let (first, rest) = id.split_first()?;
        let name = format!(".build-id/{first:02x}/{}.debug", digits(rest));
        self.debug().map(|dir| dir.join(&name)).find(|path| path.exists())
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
        false => debug_link(name, &binary, directories),
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
    let shared =
        shared_link(at, &debug, directories).and_then(|path| Some((std::fs::read(&path).ok()?, path)));
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

/// The file with the debug information of a binary that has none.
fn debug_link(name: &Path, binary: &object::File<'_>, directories: &Directories) -> Option<PathBuf> {
    if let Some(path) = directories.by_build_id(&build_id(binary)) {
        return Some(path);
    }
    let (link, _) = binary.gnu_debuglink().ok().flatten()?;
    let link = Path::new(std::str::from_utf8(link).ok()?);
    let beside = name.parent()?;
    let below_root = beside.strip_prefix("/").ok()?;
    let global = directories.debug().map(|dir| dir.join(below_root));
    [beside.to_owned(), beside.join(".debug")]
        .into_iter()
        .chain(global)
        .map(|dir| dir.join(link))
        // A file may name itself.
        .find(|path| path != name && path.exists())
}

/// The file that holds parts of the debug information in the file at `at` (dwz(1)).
fn shared_link(at: &Path, file: &object::File<'_>, directories: &Directories) -> Option<PathBuf> {
    let (link, id) = file.gnu_debugaltlink().ok().flatten()?;
    let link = at.parent()?.join(std::str::from_utf8(link).ok()?);
    match link.exists() {
        true => Some(link),
        false => directories.by_build_id(id),
    }
}

//! Debug information in files of its own, where gdb finds it ("Separate Debug Files" in its manual): by build id, or by the name in
//! `.gnu_debuglink`.
//!
//! ```text
//! DIR/.build-id/xx/yyyy.debug                       DIR: those that the user names, and /usr/lib/debug
//! ~/.cache/debuginfod_client/xxyyyy/debuginfo       what debuginfod has fetched
//! ```

use std::path::{Path, PathBuf};

use object::Object;
use object::read::ReadRef;

use crate::commands::buildid::digits;

/// The directory that distributions put debug information into.
const SYSTEM: &str = "/usr/lib/debug";

/// The directories that are searched.
#[derive(Clone, Debug, Default)]
pub struct DebugDirectories {
    /// The directories that the user has named. They are searched in this order, and before the system's.
    pub named: Vec<PathBuf>,
}

impl DebugDirectories {
    fn all(&self) -> impl Iterator<Item = &Path> {
        self.named.iter().map(PathBuf::as_path).chain([Path::new(SYSTEM)])
    }

    /// The file with this build id.
    pub fn by_build_id(&self, id: &[u8]) -> Option<PathBuf> {
        let (first, rest) = id.split_first()?;
        let name = format!(".build-id/{first:02x}/{}.debug", digits(rest));
        let fetched = || Some(cache()?.join(digits(id)).join("debuginfo"));
        self.all()
            .map(|dir| dir.join(&name))
            .find(|path| path.is_file())
            .or_else(|| fetched().filter(|path| path.is_file()))
    }

    /// The file with the debug information of a binary that has none. `name` is the binary's path, if it is known.
    pub fn of_binary<'a>(
        &self,
        name: Option<&Path>,
        binary: &object::File<'a, impl ReadRef<'a>>,
    ) -> Option<PathBuf> {
        let id = binary.build_id().ok().flatten();
        if let Some(path) = id.and_then(|id| self.by_build_id(id)) {
            return Some(path);
        }
        let (name, (link, _)) = (name?, binary.gnu_debuglink().ok().flatten()?);
        let link = Path::new(std::str::from_utf8(link).ok()?);
        let beside = name.parent()?;
        let below_root = beside.strip_prefix("/").ok()?;
        let global = self.all().map(|dir| dir.join(below_root));
        [beside.to_owned(), beside.join(".debug")]
            .into_iter()
            .chain(global)
            .map(|dir| dir.join(link))
            // A file may name itself.
            .find(|path| path != name && path.is_file())
    }

    /// The file that holds parts of the debug information in the file at `at`, which it shares with others (dwz(1)).
    pub fn shared_by<'a>(&self, at: &Path, file: &object::File<'a, impl ReadRef<'a>>) -> Option<PathBuf> {
        let (link, id) = file.gnu_debugaltlink().ok().flatten()?;
        // The name is absolute, or starts where the file is.
        let link = at.parent()?.join(std::str::from_utf8(link).ok()?);
        match link.is_file() {
            true => Some(link),
            false => self.by_build_id(id),
        }
    }
}

/// The directory where debuginfod's client keeps what it has fetched (debuginfod_find_debuginfo(3)).
fn cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("DEBUGINFOD_CACHE_PATH").or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        Some(cache?.join("debuginfod_client"))
    })
}

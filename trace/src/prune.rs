//! Cleaning the store of mapped files (see `files`): what no trace links any more is removed.
//!
//! The store is a cache, and a recorder that is about to link such a file has it open: it copies it instead. So this can
//! be done at any time.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Removes the contents that only the store itself has, and the index entries that lead nowhere. Says how many
/// bytes were freed.
pub fn prune_store(store: &Path) -> io::Result<u64> {
    let entries = match std::fs::read_dir(store) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut freed = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name
            .to_str()
            .is_some_and(|n| n.len() == 32 && n.bytes().all(|b| b.is_ascii_hexdigit()));
        let meta = entry.metadata()?;
        if ours && meta.is_file() && meta.nlink() == 1 && std::fs::remove_file(entry.path()).is_ok() {
            freed += meta.blocks() * 512;
        }
    }
    for entry in std::fs::read_dir(store.join("index"))? {
        let entry = entry?;
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        // Links are names beside the directory of the index, and nothing else.
        let there = target
            .file_name()
            .is_some_and(|name| store.join(name).symlink_metadata().is_ok());
        if !there {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(freed)
}

//! Cleaning the store of mapped files (see `files`): what no trace links any more is removed.
//!
//! The store is a cache, and a recorder that is about to link such a file has it open: it copies it instead. So this can
//! be done at any time.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::dir::{file_name, file_of};
use crate::files::notes::NOTES;

/// Removes the contents that only the store itself has and that no trace had within the time `unused`, and the notes and index entries
/// that are about no contents. Says how many bytes were freed.
pub fn prune_store(store: &Path, unused: Duration) -> io::Result<u64> {
    let entries = match std::fs::read_dir(store) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let mut freed = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().and_then(file_of).is_some();
        // Another rr may be faster.
        let Ok(meta) = entry.metadata() else { continue };
        if !ours || !meta.is_file() || meta.nlink() > 1 {
            continue;
        }
        // A trace that links the contents, or is removed, changes their ctime (inode(7)).
        let last_use = u64::try_from(meta.ctime()).unwrap_or_default();
        if now.saturating_sub(last_use) >= unused.as_secs() && std::fs::remove_file(entry.path()).is_ok() {
            freed += meta.blocks() * 512;
        }
    }
    // Notes about contents that are gone.
    for entry in std::fs::read_dir(store.join(NOTES)).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| file_of(name.split('.').next()?));
        let has_contents = |id| store.join(&*file_name(id)).symlink_metadata().is_ok();
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if !id.is_some_and(has_contents) && age().is_some_and(|age| age >= unused) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    for entry in std::fs::read_dir(store.join("index")).into_iter().flatten() {
        let entry = entry?;
        // `<hash>` or `<hash>.<boot>`: a name beside the directory of the index, and nothing else.
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let id = target
            .to_str()
            .and_then(|name| file_of(name.split('.').next().unwrap_or_default()));
        if id.is_none_or(|id| store.join(&*file_name(id)).symlink_metadata().is_err()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_linked_or_was_used_lately_stays() {
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join("store");
        fs::create_dir_all(store.join("index")).unwrap();
        let names = ["a", "b"].map(|digit| digit.repeat(32));
        for name in &names {
            fs::write(store.join(name), [0; 5000]).unwrap();
        }
        fs::write(store.join("other"), "not ours").unwrap();
        fs::hard_link(store.join(&names[0]), place.path().join("trace")).unwrap();
        symlink(format!("{}.boot", names[0]), store.join("index/1")).unwrap();
        symlink(&names[0], store.join("index/2")).unwrap();
        symlink(&names[1], store.join("index/3")).unwrap();
        symlink("c".repeat(32), store.join("index/4")).unwrap();
        let there = |name: &str| store.join(name).symlink_metadata().is_ok();

        assert_eq!(prune_store(&store, Duration::from_secs(3600)).unwrap(), 0);
        assert!(there(&names[0]) && there(&names[1]));
        assert_eq!(
            ["index/1", "index/2", "index/3", "index/4"].map(there),
            [true, true, true, false]
        );

        assert!(prune_store(&store, Duration::ZERO).unwrap() >= 5000);
        assert!(there(&names[0]) && there("other") && !there(&names[1]));
        assert_eq!(["index/1", "index/2", "index/3"].map(there), [true, true, false]);
        // There may be no store yet.
        assert_eq!(
            prune_store(&place.path().join("none"), Duration::ZERO).unwrap(),
            0
        );
    }
}

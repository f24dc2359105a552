//! A directory out of a pack.
//!
//! Keeps: under the name that was asked for there is a whole trace, or nothing. All members are compared with their checksums.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use crate::dir::TraceDir;
use crate::error::{Error, Result};
use crate::name::Name;
use crate::packing::{copy_member, not_written, temporary};
use crate::parallel::Asked;
use crate::reader::TraceReader;
use crate::recompress;

/// Makes the directory `to`, where nothing may be, out of the pack.
pub fn unpack(pack: &Path, to: &Path, asked: Asked<'_>) -> Result<()> {
    let reader = TraceReader::open(pack)?;
    if to.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: to.to_owned() });
    }
    let temporary = temporary(to);
    let dir = TraceDir::create(&temporary)?;
    let made = fill(&reader, &dir, asked).and_then(|()| {
        let renamed = std::fs::rename(&temporary, to);
        renamed.map_err(|e| Error::io(to, "making the directory", e))
    });
    if made.is_err() {
        // The error has been reported already.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    made
}

fn fill(reader: &TraceReader, dir: &TraceDir, asked: Asked<'_>) -> Result<()> {
    let Some(pack) = reader.pack() else {
        return Err(Error::NotATrace {
            path: reader.path().to_owned(),
            why: "it is a directory already".into(),
        });
    };
    for name in pack.names() {
        let member = pack.open_whole(name)?;
        let (part, file_name) = name.place();
        let file = dir.create_file(part, &file_name)?;
        let path = name.path_in(dir.path());
        let writing = |e| not_written(&path, e);
        match name {
            Name::Segment(first) => {
                let mut at = 0;
                recompress::without_dictionary(reader, first, asked, |bytes| {
                    file.write_all_at(bytes, at).map_err(writing)?;
                    at += bytes.len() as u64;
                    Ok(())
                })?;
            }
            _ => {
                let size = member
                    .size()
                    .map_err(|e| Error::io(member.path(), "reading", e))?;
                copy_member(&member, size, (&file, 0, &path), asked)?;
                file.set_len(size).map_err(writing)?;
            }
        }
        if matches!(name, Name::File(_)) {
            file.set_permissions(std::fs::Permissions::from_mode(0o444))
                .map_err(writing)?;
        }
        file.sync_all().map_err(writing)?;
    }
    dir.sync()
}

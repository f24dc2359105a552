//! Debug information of the recorded programs that stands in files of its own, and goes along with a pack (`rr pack --with-debug`).
//!
//! ```text
//! files/<hash>      the contents, as those of mapped files
//! debug             a note (`name`): a line for each of them
//!
//! line              BUILD-ID HASH        both in hexadecimal digits
//! ```
//!
//! The build id is that of the program or library (`NT_GNU_BUILD_ID`, elf(5)): debuggers ask for `…/.build-id/xx/yyyy.debug`.
//! Replay does not need any of it; so a line that is none is passed over.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;

use rr_tracee::FileId;

use crate::dir::{file_name, file_of};
use crate::error::{Error, Result};
use crate::member::Member;
use crate::name::Note;
use crate::reader::TraceReader;

/// The longest note that is read.
const NOTE_MOST: u64 = 1 << 20;

/// The files with debug information, by build id in lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DebugFiles(BTreeMap<String, FileId>);

impl DebugFiles {
    /// Those that a note lists.
    pub(crate) fn parse(text: &str) -> DebugFiles {
        let entry = |line: &str| {
            let (build_id, hash) = line.split_once(' ')?;
            let is_id = !build_id.is_empty() && build_id.bytes().all(|b| b.is_ascii_hexdigit());
            is_id.then_some((build_id.to_owned(), file_of(hash)?))
        };
        DebugFiles(text.lines().filter_map(entry).collect())
    }

    /// The note that lists them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (build_id, file) in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{build_id} {}", file_name(*file));
        }
        text
    }

    /// Adds the file for a build id.
    pub(crate) fn insert(&mut self, build_id: String, file: FileId) {
        self.0.insert(build_id, file);
    }

    /// Says if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file at a path where debuggers look for it: `…/.build-id/xx/yyyy.debug` (gdb manual, "Separate Debug Files").
    pub fn at(&self, path: &str) -> Option<FileId> {
        let (_, id) = path.rsplit_once("/.build-id/")?;
        let (first, rest) = id.strip_suffix(".debug")?.split_once('/')?;
        self.0.get(&format!("{first}{rest}")).copied()
    }
}

impl TraceReader {
    /// The files with debug information that go along with this trace.
    pub fn debug_files(&self) -> Result<DebugFiles> {
        let Some(note) = self.open_note(Note::DebugFiles)? else {
            return Ok(DebugFiles::default());
        };
        let mut bytes = Vec::new();
        let read = note.reader().take(NOTE_MOST).read_to_end(&mut bytes);
        read.map_err(|e| Error::io(Member::path(&note), "reading", e))?;
        Ok(DebugFiles::parse(&String::from_utf8_lossy(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_names_files_by_build_id() {
        let mut files = DebugFiles::default();
        let hash = "0123456789abcdef0123456789abcdef";
        files.insert("ab12cd".into(), file_of(hash).unwrap());
        assert_eq!(files.text(), format!("ab12cd {hash}\n"));
        assert_eq!(DebugFiles::parse(&files.text()), files);
        assert_eq!(files.at("/usr/lib/debug/.build-id/ab/12cd.debug"), file_of(hash));
        for other in [
            "/.build-id/ab/12ce.debug",
            "/.build-id/ab12cd",
            "/lib/ab/12cd.debug",
            "",
        ] {
            assert_eq!(files.at(other), None, "{other}");
        }
    }

    #[test]
    fn garbage_is_passed_over() {
        let text = "\n x\nzz 0123456789abcdef0123456789abcdef\nab12 short\nab12\u{0} 0123456789abcdef0123456789abcdef\n";
        assert!(DebugFiles::parse(text).is_empty());
    }
}

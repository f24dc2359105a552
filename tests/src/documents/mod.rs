//! The documents of the repository as tests: their commands are run, their outputs compared, their
//! links followed.
//!
//! A document that disagrees with rr fails a test. So a reader can copy every command.
//!
//! * [`blocks`]: the fenced blocks of a document, and the commands in them;
//! * [`session`]: runs the commands of a document;
//! * [`compare`]: an output as the document has it, and as it is;
//! * [`links`]: links and paths that lead nowhere;
//! * [`mentions`]: commands in the text, with options that do not exist.

pub mod blocks;
pub mod compare;
pub mod links;
pub mod mentions;
pub mod session;

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the repository")
}

/// The documents, by their paths from the root.
pub fn all() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["", "docs", "examples"] {
        let Ok(entries) = std::fs::read_dir(root().join(dir)) else {
            continue;
        };
        for entry in entries {
            let name = entry.expect("a directory entry").file_name();
            let path = Path::new(dir).join(name);
            if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The text of a document.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).expect("a document")
}

//! One file per command.

pub mod backtrace;
pub mod buildid;
pub mod checkpoints;
pub mod ci;
pub mod completions;
pub mod create_checkpoints;
pub mod doctor;
pub mod dump;
pub mod filename;
pub mod gdbinit;
pub mod ls;
pub mod man;
pub mod mv;
pub mod pack;
pub mod ps;
pub mod record;
pub mod replay;
pub mod rerun;
pub mod rm;
pub mod snapshot;
pub mod sources;
pub mod timeline;
pub mod traceinfo;
pub mod unpack;
pub mod verify;

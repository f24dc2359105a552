//! The statistics of a checkpoint. They stand in the checkpoint itself.

use std::fmt;

/// The maker of a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Maker {
    /// It was made before checkpoints said so.
    #[default]
    Unknown,
    /// `rr record`.
    Recorder,
    /// `rr create-checkpoints`.
    CreateCheckpoints,
    /// The user of a debugger.
    Debugger,
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Maker::Unknown => "unknown",
            Maker::Recorder => "recorder",
            Maker::CreateCheckpoints => "create-checkpoints",
            Maker::Debugger => "debugger",
        })
    }
}

/// The statistics of one checkpoint. `pages_scanned` is the sum of `pages_zero`, `pages_referenced` and
/// `pages_stored`; `pages_unchanged` come on top.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CheckpointStats {
    /// The time that the recorded program stood still for it, in µs.
    pub pause_us: u64,
    /// Pages whose contents were looked at.
    pub pages_scanned: u64,
    /// Pages that were zeros: nothing is stored.
    pub pages_zero: u64,
    /// Pages with contents that were already stored, by an earlier checkpoint or this one.
    pub pages_referenced: u64,
    /// Pages that were stored.
    pub pages_stored: u64,
    /// Pages that were known to be as in the checkpoint before, without being looked at.
    pub pages_unchanged: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// From the writer's taking it up until all but the file's header was written, in ms (the final sync
    /// is not in it).
    pub write_ms: u64,
    /// The method that found pages with data ([`rr_tracee::pagemap::Method`], as text). `+unchanged` follows if pages
    /// that have not changed could be told from the others ([`rr_tracee::pagemap::shared`]).
    pub method: String,
    /// Tasks in the image.
    pub tasks: u64,
    /// Address spaces that were read in place, without a fork.
    pub spaces_in_place: u32,
    /// Its maker.
    pub maker: Maker,
}

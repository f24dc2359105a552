//! The trace: everything needed to replay a recording, in one directory, or in one file ([`pack`]).
//!
//! ```text
//! DIR/header                              what was recorded                        (module `header`)
//! DIR/segments/<first event>.seg          the events, with their data              (`segment`, `frame`)
//! DIR/files/<hash>                        contents of mapped files                 (`files`)
//! DIR/checkpoints/<event>.ckpt            one file per checkpoint                  (crate rr-checkpoint)
//! DIR/checkpoints/<event>.blocks          what others need of a removed one
//! DIR/ci.json, DIR/backtrace              notes of `rr ci`; replay needs none   (`name`)
//! ```
//!
//! Event numbers in names are decimal with 16 digits; hashes are xxh3-128 of the contents (seed 0), in 32 lower-case
//! hexadecimal digits. All numbers in files are little-endian. A trace names nothing outside of its directory, so it can be
//! moved (I6); files with other names are ignored. A pack holds the same members in one file ([`pack`]). Packs that share
//! mapped files have these, and the dictionaries of their frames, in a directory `objects` beside them.
//!
//! # Streams and segments
//!
//! Events and the bytes that they carry go into one file, as *frames* of different kinds, and not into a file per kind. So a
//! torn end is a single cut, and streams cannot disagree about its place. The Data frames of an Events frame stand right before
//! it, and form a *group* with it:
//!
//! ```text
//! 0000000000000001.seg  | header | Data 1-90 | Events 1-90 | Events 91-400 | Data 401-401 | Data 401-401 | Events 401-401 |
//! 0000000000000402.seg  | header | Events 402-800 | … | End |
//! ```
//!
//! Bytes that the data of a group have twice are stored once, and zeros not at all. Then an Extents frame between Data and Events
//! says how the data are put together (`extents`).
//!
//! A frame needs nothing from another frame but its own group's data; so reading can start at any group, and deleting
//! segments from the front leaves a trace that replays from the next checkpoint on (flight recorder). A new segment starts at
//! every checkpoint that is made while recording, so that reading from a checkpoint begins with the first frame of a file.
//!
//! Limits that a reader enforces before it allocates: a frame's payload has at most 8 MiB before compression, an Events
//! frame at most 65536 events, its data are at most 8 MiB, or 4 GiB if it holds a single event (and no Extents frame); an unpacked
//! message has at most 32 MiB.
//!
//! # Invariants
//!
//! - *Flushed is safe* (I5): files only grow, by whole groups; a failed write is cut off. Recovery drops the torn last
//!   group and nothing else.
//! - A reader trusts nothing: lengths are bounded before allocation, names are made from numbers and hashes and opened
//!   without following links, every error names file and offset.
//! - Event numbers are consecutive, in a frame and from frame to frame.
//!
//! | module | concept |
//! |---|---|
//! | [`event`] | events: the steps of a recording, and what replay does for each |
//! | [`bytes`], [`records`] | the bytes that an event carries, and the records of buffered calls in them |
//! | [`header`] | facts about the recording: program, machine, options |
//! | [`error`] | errors that name file and offset |
//! | [`writer`] | [`TraceWriter`]: where events go |
//! | `queue`, `writer_thread`, `compression_level` | the writer's thread, and how hard it compresses |
//! | [`reader`] | [`TraceReader`]: an opened trace |
//! | [`cursor`] | [`EventCursor`]: events in order |
//! | [`source`] | [`EventSource`]: events by number, for several that go back and forth |
//! | [`processes`], `lineage` | the processes of a recording |
//! | `process_log`, `process_table` | the table of them at the end of a recording |
//! | [`trim`], `beginning` | deleting the beginning of a trace while it is recorded; where it begins then |
//! | [`hold`], [`links`] | readers that need all of a trace that is being recorded: for a short time, and for long |
//! | `name`, `dir`, `member`, `members` | names, and the way to what they name: files of a directory, or parts of a pack |
//! | [`files`], `copy`, [`prune`] | [`FileStore`]: contents of mapped files; how they come into the trace; cleaning the store |
//! | [`segment`], [`frame`] | a segment file: frames in groups |
//! | `extents`, [`record_delta`], `delta`, [`compress`] | encodings of a frame's contents |
//! | `message`, [`convert`] | events as Cap'n Proto messages; types of rr-tracee as messages |
//! | [`pack`], [`packing`], `recompress` | a trace in one file: reading it, writing it, making its segments smaller |
//! | [`mod@unpack`] | a directory out of a pack |
//! | [`collect`] | deleting what packs of a directory no longer share |
//! | `debug_files` | debug information of the recorded programs that goes along with a pack |
//! | `dictionary` | bytes that the events of several recordings have in common |
//! | [`parallel`] | work by several threads, with the results in order |

#[cfg(test)]
extern crate self as rr_trace;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod test_events;

mod beginning;
pub mod bytes;
pub mod collect;
pub mod compress;
mod compression_level;
pub mod convert;
mod copy;
pub mod cursor;
mod debug_files;
mod delta;
mod dictionary;
mod dir;
pub mod error;
pub mod event;
mod extents;
pub mod files;
pub mod frame;
pub mod header;
pub mod hold;
mod lineage;
pub mod links;
mod member;
mod members;
mod message;
mod name;
pub mod pack;
pub mod packing;
pub mod parallel;
mod process_log;
mod process_table;
pub mod processes;
pub mod prune;
mod queue;
pub mod reader;
mod recompress;
pub mod record_delta;
pub mod records;
pub mod segment;
pub mod source;
pub mod trim;
pub mod unpack;
pub mod writer;
mod writer_thread;

pub use bytes::{Bytes, Lend};
pub use cursor::EventCursor;
pub use debug_files::DebugFiles;
pub use dir::recycle;
pub use error::{Error, Malformed, Result};
pub use event::{Event, EventKind, EventNumber};
pub use files::FileStore;
pub use header::{FORMAT_VERSION, Header, Uname};
pub use hold::Hold;
pub use member::{Member, MemberReader};
pub use name::Note;
pub use reader::TraceReader;
pub use source::{EventPosition, EventSource};
pub use trim::Trimmer;
pub use writer::{Progress, TraceWriter, WriterOptions};

//! Checkpoints: a session at an event, stored so that a replay can start there.
//!
//! `Checkpoint = SessionImage + Snapshot`: the image is plain data ([`image`]), the snapshot is the contents
//! of pages. This crate captures the pages of recorded (or replayed) processes without stopping them for longer
//! than a fork takes, keeps them in one file per checkpoint, gives them back, and compares them with a live
//! session. It does no ptrace: forks are made, tasks built and processes reaped by recorder and replayer.
//!
//! | module | concept |
//! |---|---|
//! | [`image`] | a session at an event, without its pages |
//! | [`source`] | the sources of an address space while its program runs on |
//! | [`capture`] | the parts that a recorder hands over |
//! | `walk` | the walk over their pages |
//! | [`schedule`] | when checkpoints are due |
//! | [`writer`] | the threads that make checkpoint files of it, and the one that reads |
//! | `store` | one capture being read: its new and its known contents |
//! | `content_index` | contents that a checkpoint can refer to |
//! | `write_status` | the state of a checkpoint that others refer to |
//! | `baseline` | the pages of the capture before, by address |
//! | `pipeline` | the data that goes from one of these threads to the next |
//! | `assemble` | the thread that writes files |
//! | `temporary` | a file that has not got its name yet |
//! | `publish` | the thread that makes them durable, under their names, in order |
//! | `room` | the part of the disk that is left to others |
//! | [`mod@file`] | the file format |
//! | [`files`] | the place of checkpoint files: a directory or a pack |
//! | `checksum` | the checksum of everything in these files |
//! | [`block`] | compressed runs of pages |
//! | [`collection`] | the checkpoints of a trace together, and removal |
//! | [`retention`] | the choice of those that stay when there is no room for all |
//! | [`budget`] | a writer's budget |
//! | [`window`] | the last part of a recording, which a flight recorder keeps |
//! | [`compression`] | the codecs of blocks |
//! | [`repack`] | all checkpoints of a trace anew, for a pack |
//! | [`cache`] | decompressed blocks |
//! | `index` | the pages that there are, and their places |
//! | `codec` | image, index and statistics as Cap'n Proto |
//! | [`restore`] | reading a checkpoint |
//! | `fill` | reading its pages, by several threads |
//! | [`verify`] | comparing one with a live session (I4) |
//! | [`stats`] | the statistics of a checkpoint |

mod assemble;
mod baseline;
pub mod block;
pub mod budget;
pub mod cache;
pub mod capture;
mod checksum;
mod codec;
pub mod collection;
pub mod compression;
mod content_index;
pub mod error;
pub mod file;
pub mod files;
mod fill;
mod gauge;
pub mod image;
mod index;
mod pipeline;
mod publish;
pub mod repack;
pub mod restore;
pub mod retention;
mod room;
pub mod schedule;
pub mod source;
pub mod stats;
mod store;
mod temporary;
pub mod verify;
mod walk;
pub mod window;
mod write_status;
pub mod writer;

pub use budget::Budget;
pub use cache::BlockCache;
pub use capture::{
    CaptureRequest, Changes, ObjectSource, SpaceSource, Unchanged, copy_unforkable, is_forked,
};
pub use collection::{Collection, Removed, bytes_on_disk};
pub use error::{Error, Result};
pub use file::{checkpoint_path, list};
pub use files::Files;
pub use image::{ObjectImage, SessionImage, SpaceImage, TaskImage};
pub use pipeline::Outcome;
pub use restore::{Checkpoint, PageSource, PageTarget};
pub use schedule::{Interval, Schedule};
pub use source::{Replaced, SharedSource};
pub use stats::{CheckpointStats, Maker};
pub use verify::{
    Difference, Differences, Line, Untouched, compare_checkpoints, compare_images, compare_object,
    compare_space,
};
pub use window::{KeepLast, Window};
pub use writer::{CheckpointWriter, Options, Summary};

//! The limits of what one frame and one event may hold: a writer keeps to them, and a reader refuses more.

use crate::frame::FRAME_RAW_MAX;

/// Most events that one frame may hold.
pub const FRAME_EVENTS_MAX: u64 = 1 << 16;

/// Most bytes of data that the events of one frame may have together, unless it is a single event.
pub const BATCH_DATA_MAX: u64 = 8 << 20;

/// Most bytes of data that one event may have: twice what one system call can move (read(2)).
pub const EVENT_DATA_MAX: u64 = 1 << 32;

/// Most bytes of message that one event may need. Packing makes a message larger by an eighth at worst, so that it
/// still fits into [`FRAME_RAW_MAX`].
pub const EVENT_MESSAGE_MAX: u64 = FRAME_RAW_MAX as u64 - (1 << 20);

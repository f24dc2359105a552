//! Linux AIO (io_setup(2) and its like): requests that the kernel carries out behind the program's back.
//!
//! The recorder lets no effect of theirs show outside of an event (`recorder/src/call/aio/`).

use super::spec::{Emulated, Spec};

use super::forms::*;

/// Size of `struct io_event`.
const IO_EVENT: u64 = 32;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(206, "io_setup").emulated(Emulated::IoSetup).outs(&[perhaps(1, 8)]),
    call(207, "io_destroy").emulated(Emulated::IoDestroy).blocks(),
    call(209, "io_submit").emulated(Emulated::IoSubmit).blocks_if(|r| r.arg(1) as i64 > 0),
    call(208, "io_getevents").blocks_if(|r| r.arg(1) as i64 > 0).outs(&[elements(3, 2, IO_EVENT)]),
    call(333, "io_pgetevents").blocks_if(|r| r.arg(1) as i64 > 0).outs(&[elements(3, 2, IO_EVENT)]),
    call(210, "io_cancel"),
];

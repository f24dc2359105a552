//! The library inside every tracee, as the rest of rr sees it: its code, and the memory that it shares with the recorder
//! and the replayer.
//!
//! `library/` is a program of its own, without libc, heap, thread-local storage or relocations. The build script links
//! it for the one address where it lies in every tracee (`rr_tracee::rr_area`), and [`IMAGE`] is the result: the bytes
//! of its code. The recorder maps it where it is of use, by remote system calls; so it is there for static
//! programs too, before everything else, and `LD_PRELOAD` is the program's own.

pub mod layout;
#[path = "../library/numbers.rs"]
mod numbers;
pub mod payload;
pub mod records;

/// The code of the library, to be mapped at [`layout::CODE`], readable and executable.
pub static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/library.bin"));

/// Whether the library may handle calls of this number.
pub fn is_buffered(number: i64) -> bool {
    u64::try_from(number).is_ok_and(|number| numbers::BUFFERED.contains(&number))
}

#[cfg(test)]
mod tests;

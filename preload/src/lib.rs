//! The library inside every tracee, as the rest of rr sees it: its code, and the memory that it shares with the recorder
//! and the replayer.
//!
//! `library/` is a program of its own, without libc, heap, thread-local storage or relocations. The
//! build script links it for the one address where it lies in every tracee (`rr_tracee::rr_area`).
//! [`IMAGE`] holds the resulting code. The recorder maps it by remote system calls, where it is useful.
//! So static programs have it, too, it is there before everything else, and `LD_PRELOAD` stays the
//! program's own.

pub mod layout;
#[path = "../library/numbers.rs"]
mod numbers;
pub mod payload;
pub mod records;

/// The code of the library, to be mapped at [`layout::CODE`], readable and executable.
pub static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/library.bin"));

/// Returns whether the library may handle calls of this number.
pub fn is_buffered(number: i64) -> bool {
    u64::try_from(number).is_ok_and(|number| numbers::BUFFERED.contains(&number))
}

#[cfg(test)]
mod tests;

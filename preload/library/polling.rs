//! Calls that wait for descriptors: the library asks which descriptors are ready, without waiting.
//!
//! It asks with a copy of the program's structures. If no descriptor is ready and the program would
//! wait, the program's memory is unchanged, and the call is traced. The remaining time is not written
//! back, because no time has passed.

use crate::call::Call;
use crate::kernel::{self, call as sys, word};
use crate::numbers::*;
use crate::probe;

/// Maximum number of descriptors of a `poll`.
const POLL_MOST: u64 = 128;
/// Maximum number of descriptors of a `select`: the size of an `fd_set`.
const SELECT_MOST: u64 = 1024;
const SET_WORDS: usize = SELECT_MOST as usize / 64;

/// Says if the program would wait.
enum Patience {
    None,
    Some,
}

impl Patience {
    /// Reads a time of two words, of which the second is below `unit`. A null pointer means to wait
    /// without limit.
    fn at(time: u64, unit: u64) -> Option<Patience> {
        if time == 0 {
            return Some(Patience::Some);
        }
        // SAFETY: [`crate::probe`] has checked that this memory can be read.
        let (seconds, rest) = unsafe { (word(time), word(time + 8)) };
        match (seconds, rest) {
            (0, 0) => Some(Patience::None),
            // The kernel refuses or normalizes an invalid time: not handled here.
            _ if seconds > i64::MAX as u64 || rest >= unit => None,
            _ => Some(Patience::Some),
        }
    }
}

/// `poll` and `ppoll`.
pub fn poll(call: &Call, room: u64) -> Option<i64> {
    let [at, count, time, mask, ..] = call.args;
    if count > POLL_MOST || count * 8 > room {
        return None;
    }
    let patience = match call.number {
        POLL if time as u32 == 0 => Patience::None,
        POLL => Patience::Some,
        _ if mask != 0 => return None,
        _ => Patience::at(time, 1_000_000_000)?,
    };
    let mut copy = [0u64; POLL_MOST as usize];
    let copied = copy.as_mut_ptr() as u64;
    // SAFETY: `copy` has room for `count` structures of eight bytes, and the program's structures can
    // be read.
    let ready = unsafe {
        kernel::copy(copied, at, count * 8);
        sys(POLL, [copied, count, 0, 0, 0, 0])
    };
    if ready < 0 || ready == 0 && matches!(patience, Patience::Some) {
        return None;
    }
    if !probe::writable(at, count * 8) {
        return None;
    }
    // SAFETY: the program's memory has just been checked; the copy is as above.
    unsafe { kernel::copy(at, copied, count * 8) };
    Some(ready)
}

/// Size of each set of a `select`, in bytes.
pub fn set_bytes(call: &Call) -> u64 {
    (call.args[0] as u32 as u64).div_ceil(64) * 8
}

/// `select` and `pselect6`.
pub fn select(call: &Call) -> Option<i64> {
    let [count, _, _, _, time, mask] = call.args;
    if count as u32 as u64 > SELECT_MOST {
        return None;
    }
    let unit = match call.number {
        SELECT => 1_000_000,
        // SAFETY: [`crate::probe`] has checked that this memory can be read.
        _ if mask != 0 && unsafe { word(mask) } != 0 => return None,
        _ => 1_000_000_000,
    };
    let patience = Patience::at(time, unit)?;
    let len = set_bytes(call);
    let mut copies = [[0u64; SET_WORDS]; 3];
    let mut args = [count, 0, 0, 0, 0, 0];
    let zero = [0u64; 2];
    args[4] = zero.as_ptr() as u64;
    for n in 0..3 {
        let set = call.args[n + 1];
        if set != 0 {
            // The kernel writes the sets whatever the result is.
            if !probe::writable(set, len) {
                return None;
            }
            args[n + 1] = copies[n].as_mut_ptr() as u64;
            // SAFETY: the copy is as large as the largest set.
            unsafe { kernel::copy(args[n + 1], set, len) };
        }
    }
    // SAFETY: the kernel changes the copies, and the time, which stays zero.
    let ready = unsafe { sys(SELECT, args) };
    if ready < 0 || ready == 0 && matches!(patience, Patience::Some) {
        return None;
    }
    for n in 0..3 {
        if args[n + 1] != 0 {
            // SAFETY: as above.
            unsafe { kernel::copy(call.args[n + 1], args[n + 1], len) };
        }
    }
    Some(ready)
}

/// `epoll_wait` and `epoll_pwait`.
pub fn epoll_wait(call: &Call, room: u64) -> Option<i64> {
    let mut args = call.args;
    if args[2] > room / 12 {
        return None;
    }
    args[3] = 0;
    // SAFETY: the kernel writes events into the program's buffer, and nothing if there are none.
    let ready = unsafe { sys(call.number, args) };
    (ready != 0 || call.args[3] as u32 == 0).then_some(ready)
}

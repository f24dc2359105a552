//! Sockets: sends, receives and accepts what is possible at once.
//!
//! A message that has been received is gone. So the library checks first that the buffers can be
//! written. If they cannot, the call is traced and finds the message untouched.

use crate::call::Call;
use crate::file::{File, S_IFSOCK, is_nonblocking, is_writable, plain};
use crate::kernel::{self, call as sys, copy, word};
use crate::message;
use crate::numbers::*;
use crate::outputs::{asked, int};
use crate::probe::writable;

/// Maximum number of bytes sent to a socket in blocking mode: a socket with any room has at least this
/// much.
const SOCKET_MOST: u64 = 2048;
/// Maximum number of buffers of a message.
const PIECES_MOST: u64 = 64;

/// Maximum size that the kernel may write into a control buffer without a message: credentials (32
/// bytes) and a process descriptor (24).
const CONTROL_MOST: u64 = 256;

const MSG_DONTWAIT: u64 = 0x40;
const MSG_WAITALL: u64 = 0x100;
const MSG_NOSIGNAL: u64 = 0x4000;
const SOL_SOCKET: u32 = 1;
const IPPROTO_IP: u32 = 0;
const IPPROTO_IPV6: u32 = 41;
const IPPROTO_TCP: u32 = 6;

/// Total length of a vector of buffers.
pub fn vector_len(vector: u64, count: u64) -> u64 {
    let mut len = 0u64;
    for n in 0..count {
        // SAFETY: [`crate::probe`] has checked that the vector can be read.
        len = len.saturating_add(unsafe { word(vector + n * 16 + 8) });
    }
    len
}

/// `sendto`.
pub fn send(call: &Call) -> Option<i64> {
    transmit(call.number, call.args, 3, call.args[2])
}

/// `sendmsg`.
pub fn send_message(call: &Call) -> Option<i64> {
    let at = call.args[1];
    // SAFETY: [`crate::probe`] has checked that the message can be read.
    let (vector, count) = unsafe { (word(at + message::VECTOR), word(at + message::COUNT)) };
    if count > PIECES_MOST {
        return None;
    }
    transmit(SENDMSG, call.args, 2, vector_len(vector, count))
}

/// Does for a socket what `write` and `writev` do.
pub fn write(call: &Call, len: u64) -> Option<i64> {
    let [fd, at, count, ..] = call.args;
    match call.number {
        WRITE => transmit(SENDTO, [fd, at, count, 0, 0, 0], 3, len),
        WRITEV => {
            let message = [0, 0, at, count, 0, 0, 0u64];
            transmit(SENDMSG, [fd, message.as_ptr() as u64, 0, 0, 0, 0], 2, len)
        }
        _ => None,
    }
}

/// Sends `len` bytes. `flags` is the index of the argument with the flags.
fn transmit(number: u64, mut args: [u64; 6], flags: usize, len: u64) -> Option<i64> {
    let fd = args[0];
    match File::of_fd(fd) {
        Ok(file) if file.kind == S_IFSOCK && !file.is_watched() => {}
        _ => return None,
    }
    let waits = args[flags] & MSG_DONTWAIT == 0;
    // If the program does not want to wait, a partial transfer is right. Otherwise there must be room
    // for all: a stream with little room takes a part even of a small message.
    if waits && (len > SOCKET_MOST || !is_writable(fd)) && !is_nonblocking(fd) {
        return None;
    }
    args[flags] |= MSG_DONTWAIT | MSG_NOSIGNAL;
    // SAFETY: sends from the program's buffers.
    match unsafe { sys(number, args) } {
        EAGAIN if waits && !is_nonblocking(fd) => None,
        // The kernel also sends a signal, so the call has to be traced.
        EPIPE => None,
        result => Some(result),
    }
}

/// `recvfrom`.
pub fn receive(call: &Call, room: u64) -> Option<i64> {
    let a = &call.args;
    let [name_len, _] = asked(call);
    if a[3] & MSG_WAITALL != 0 || a[2].saturating_add(name_len) > room {
        return None;
    }
    let named = a[4] == 0 || writable(a[4], name_len) && writable(a[5], 4);
    if !named || !writable(a[1], a[2]) {
        return None;
    }
    take(call, 3)
}

/// `recvmsg`.
pub fn receive_message(call: &Call, room: u64) -> Option<i64> {
    let at = call.args[1];
    if call.args[2] & MSG_WAITALL != 0 {
        return None;
    }
    // SAFETY: [`crate::probe`] has checked that the message can be read.
    let [name, vector, count, control] = unsafe {
        [message::NAME, message::VECTOR, message::COUNT, message::CONTROL].map(|field| word(at + field))
    };
    let [name_len, control_len] = asked(call);
    if count > PIECES_MOST {
        return None;
    }
    let all = vector_len(vector, count)
        .saturating_add(name_len)
        .saturating_add(control_len);
    if all > room {
        return None;
    }
    // The buffers must not overlap the message header and the vector: these must still be valid when
    // the buffers are written.
    let apart = |from: u64, len: u64| {
        let clear = |other: u64, size: u64| from >= other + size || other >= from.saturating_add(len);
        len == 0 || clear(at, message::BYTES) && clear(vector, count * 16)
    };
    if !apart(name, name_len) || !apart(control, control_len) {
        return None;
    }
    for n in 0..count {
        // SAFETY: the vector has been read before.
        let (base, len) = unsafe { (word(vector + n * 16), word(vector + n * 16 + 8)) };
        if !apart(base, len) || !writable(base, len) {
            return None;
        }
    }
    if !writable(at, message::BYTES) || !writable(name, name_len) || !writable(control, control_len) {
        return None;
    }
    let saved = control_len.min(CONTROL_MOST);
    let mut before = [0u8; CONTROL_MOST as usize];
    // SAFETY: the program's control buffer has been checked, and the other is ours alone.
    unsafe { copy(before.as_mut_ptr() as u64, control, saved) };
    let taken = take(call, 2);
    if !matches!(taken, Some(0..)) {
        // The kernel writes the sender's credentials there even without a message (SO_PASSCRED).
        // SAFETY: as above.
        unsafe { copy(control, before.as_ptr() as u64, saved) };
    }
    taken
}

/// Receives what is there. `flags` is the index of the argument with the flags.
fn take(call: &Call, flags: usize) -> Option<i64> {
    let mut args = call.args;
    let waits = args[flags] & MSG_DONTWAIT == 0;
    args[flags] |= MSG_DONTWAIT;
    // SAFETY: receives into the program's buffers.
    match unsafe { sys(call.number, args) } {
        EAGAIN if waits && !is_nonblocking(args[0]) => None,
        result => Some(result),
    }
}

/// Accepts and connects, if the program does not want to wait.
pub fn join(call: &Call) -> Option<i64> {
    let a = &call.args;
    if !is_nonblocking(a[0]) {
        return None;
    }
    if call.number != CONNECT && a[1] != 0 {
        let [len, _] = asked(call);
        if !writable(a[1], len) || !writable(a[2], 4) {
            return None;
        }
    }
    plain(call)
}

/// `getsockname` and `getpeername`.
pub fn name(call: &Call, room: u64) -> Option<i64> {
    // SAFETY: [`crate::probe`] has checked that this memory can be read.
    let len = unsafe { int(call.args[2]) };
    succeed(call, len, room)
}

/// `setsockopt`.
pub fn set_option(call: &Call) -> Option<i64> {
    let [_, level, option, ..] = call.args;
    is_plain_option(level as u32, option as u32)
        .then(|| plain(call))
        .flatten()
}

/// Returns whether an option reads or writes only as many bytes as its length says. (The recorder
/// handles or refuses the others: `tracee/src/syscalls/options.rs`.)
fn is_plain_option(level: u32, option: u32) -> bool {
    match (level, option) {
        // SO_ATTACH_FILTER, SO_GET_FILTER
        (SOL_SOCKET, 26) => false,
        // IP_MSFILTER, MCAST_MSFILTER; from 64 on, the tables of netfilter.
        (IPPROTO_IP | IPPROTO_IPV6, 41 | 48) => false,
        (IPPROTO_IP, 64..) | (IPPROTO_IPV6, 64 | 65) => false,
        // TCP_ZEROCOPY_RECEIVE, TCP_AO_GET_KEYS
        (IPPROTO_TCP, 35 | 41) => false,
        _ => true,
    }
}

/// `getsockopt`.
pub fn option(call: &Call, room: u64) -> Option<i64> {
    let [_, level, option, ..] = call.args;
    if !is_plain_option(level as u32, option as u32) {
        return None;
    }
    let [len, _] = asked(call);
    succeed(call, len, room)
}

/// Makes a call without side effects. If it fails, it is traced, because the recorder knows what a
/// failing call writes.
fn succeed(call: &Call, len: u64, room: u64) -> Option<i64> {
    if len > room {
        return None;
    }
    // SAFETY: the program asked for this call.
    let result = unsafe { kernel::call(call.number, call.args) };
    (result >= 0).then_some(result)
}

//! Records of the results of buffered calls, written while recording and read in replay
//! (`../src/layout.rs` shows them).

use crate::call::Call;
use crate::calls::Reading;
use crate::layout::{CONTROL, Control, RECORD_BYTES, RECORDS, traced};
use crate::numbers::BUFFERED;
use crate::outputs::{OUTPUT_SMALL, asked, outputs};
use crate::payload::{Digest, Hasher, Source};
use crate::{calls, kernel, probe, shaping};

/// Length of the description of a call that changes the address space.
const SHAPE_BYTES: u64 = 24;

/// Number of bits for the length of the outputs.
const LEN_BITS: u32 = 20;

fn control() -> &'static mut Control {
    // SAFETY: the page is there wherever this code is, and only one task of an address space runs.
    unsafe { &mut *(CONTROL as *mut Control) }
}

/// The first word of a record.
fn head(call: &Call, place: u64, len: u64) -> u64 {
    // The hash covers every register that the call depends on, so replay notices a difference at this
    // very call.
    let mut hash = place;
    for arg in call.args {
        hash = (hash.rotate_left(5) ^ arg).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    call.number & 0xfff | len << 12 | hash >> 32 << 32
}

/// Returns whether the program's filters let the library make calls of this number. (The pseudo calls
/// for the time-stamp counter are always allowed.)
fn is_allowed(control: &Control, number: u64) -> bool {
    let word = control.allowed.get((number / 64) as usize);
    word.is_none_or(|word| word >> (number % 64) & 1 != 0)
}

/// Makes the call if it cannot block, and writes its record. `None` means that nothing has happened and
/// the call has to be traced.
pub fn record(call: &Call, now: u32, place: u64) -> Option<i64> {
    let control = control();
    if control.due == 0 || !is_allowed(control, call.number) {
        return None;
    }
    let room = (control.end - control.used).checked_sub(RECORD_BYTES + OUTPUT_SMALL + 8)?;
    if shaping::is_shaping(call) {
        if now & traced::SHAPING != 0 {
            return None;
        }
        let (result, words) = shaping::perform(call)?;
        let at = control.records + control.used;
        // SAFETY: there is room in the buffer.
        unsafe {
            *(at as *mut [u64; 2]) = [head(call, place, SHAPE_BYTES), result as u64];
            *((at + RECORD_BYTES) as *mut [u64; 3]) = words;
        }
        control.used += RECORD_BYTES + SHAPE_BYTES;
        control.due -= 1;
        return Some(result);
    }
    if !probe::can_be_looked_at(call) {
        return None;
    }
    let asked = asked(call);
    let mut reading = Reading::Done;
    let result = calls::perform(call, now, room.min((1 << LEN_BITS) - 1), &mut reading)?;
    let at = control.records + control.used;
    let mut to = at + RECORD_BYTES;
    // SAFETY: there is room in the buffer; the kernel has written the outputs, so they can be read.
    outputs(call, result, asked, &mut |from, len| unsafe {
        kernel::copy(to, from, len);
        to += len;
    });
    let digest = match reading {
        Reading::None => None,
        reading => Digest::of_call(call.number, &call.args, result, &Payload(reading)),
    };
    if let Some(digest) = digest {
        // SAFETY: there is room in the buffer, because calls with a payload have small outputs.
        unsafe { (to as *mut u32).write_unaligned(digest.value()) };
        to += Digest::BYTES;
    }
    let len = to - at - RECORD_BYTES;
    // SAFETY: as above.
    unsafe {
        *(at as *mut [u64; 2]) = [head(call, place, len), result as u64];
        while to & 7 != 0 {
            *(to as *mut u8) = 0;
            to += 1;
        }
    }
    control.used = to - control.records;
    control.due -= 1;
    Some(result)
}

/// The program's memory as the source of a call's payload.
struct Payload(Reading);

impl Payload {
    /// Returns whether these bytes can be read.
    fn is_there(&self, at: u64, len: u64) -> bool {
        const STEP: u64 = 4096;
        let step = |n: u64| probe::readable(at + n, STEP.min(len - n));
        matches!(self.0, Reading::Done) || (0..len).step_by(STEP as usize).all(step)
    }
}

impl Source for Payload {
    fn word(&self, at: u64) -> Option<u64> {
        // SAFETY: the word has been checked.
        self.is_there(at, 8).then(|| unsafe { kernel::word(at) })
    }

    fn feed(&self, hasher: &mut Hasher, at: u64, len: u64) -> Option<()> {
        // SAFETY: the bytes have been checked, or the kernel has read them. Nobody else runs.
        let bytes = || unsafe { core::slice::from_raw_parts(at as *const u8, len as usize) };
        self.is_there(at, len).then(|| hasher.bytes(bytes()))
    }
}

/// Reports that the payload's digest is not the recorded one. Returns if the digest is right after all,
/// because bytes of the replayer were in between.
#[inline(never)]
fn other_payload(control: &mut Control) {
    control.mismatch = control.used;
    let is_payload = &raw mut control.other_payload;
    // SAFETY: the word is ours. `ud2` ends in a signal that the replayer reports, or the replayer
    // continues behind it.
    unsafe {
        is_payload.write_volatile(1);
        core::arch::asm!("ud2");
        is_payload.write_volatile(0);
    }
}

/// Reports that the call is not the recorded one.
fn mismatch(control: &mut Control) -> ! {
    control.mismatch = control.used;
    // SAFETY: ends in a signal that the replayer reports.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

/// Returns the result that the next record holds. `None` means that there is no record, so the call was
/// traced.
pub fn replay(call: &Call, place: u64) -> Option<i64> {
    let control = control();
    let left = control.end - control.used;
    if left == 0 {
        return None;
    }
    let at = RECORDS + control.used;
    // SAFETY: the replayer has stored whole words there.
    let (first, result) = unsafe { (*(at as *const u64), *((at + 8) as *const i64)) };
    let len = first >> 12 & ((1 << LEN_BITS) - 1);
    let size = (RECORD_BYTES + len + 7) & !7;
    if left < size || first != head(call, place, len) {
        // The call was traced, but a filter outside rr refused it, so no event ended the interval.
        if !BUFFERED.contains(&call.number) {
            return None;
        }
        mismatch(control);
    }
    if shaping::is_shaping(call) {
        if len != SHAPE_BYTES {
            mismatch(control);
        }
        control.used += size;
        // SAFETY: the kernel does not perform this call. The replayer sees it and does what the record
        // says.
        unsafe { kernel::call(call.number, [0; 6]) };
        return Some(result);
    }
    let (mut from, end) = (at + RECORD_BYTES, at + RECORD_BYTES + len);
    let mut fits = true;
    outputs(call, result, asked(call), &mut |to, len| {
        fits &= len <= end - from;
        if fits {
            // SAFETY: the record holds this many bytes, and while recording the kernel wrote them to
            // these places.
            unsafe { kernel::copy(to, from, len) };
            from += len;
        }
    });
    if fits && end - from == Digest::BYTES {
        // SAFETY: as above.
        let recorded = unsafe { (from as *const u32).read_unaligned() };
        let digest = Digest::of_call(call.number, &call.args, result, &Payload(Reading::Done));
        if digest != Digest::of_value(recorded) {
            other_payload(control);
        }
        from = end;
    }
    if !fits || from != end {
        mismatch(control);
    }
    control.used += size;
    Some(result)
}

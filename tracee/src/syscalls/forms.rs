//! The vocabulary of the tables.
//!
//! An [`Out`] describes one regular output: memory behind an argument, whose length ([`Len`]) is known
//! at entry, and of which some bytes ([`Extent`]) are written when the call returns. Invariant kept
//! here: an output whose extent is not exact has `copy_in`, and is only as long as the memory that
//! could be read at entry. So if too much is declared as written, the extra bytes are recorded
//! unchanged, and nothing worse happens.
//!
//! ```text
//! call(0, "read").blocks_on(0).outs(&[buffer(1, 2)])
//!      │                    │             │      └ its length is argument 2; the result says how much is written
//!      number               │             └ argument 1 points to it
//!                           └ may wait, unless argument 0 is a regular file
//! ```

use super::spec::{
    Blocking, Class, Commands, Emulated, Extent, Holder, Len, MemorySpec, Out, Part, PartsFn, Predicate,
    ReadPart, RefusedForm, Spec, Written, WrittenFn,
};
use crate::error::{Error, Result};
use crate::ids::{Addr, PAGE};
use crate::memory::ReadMemory;
use crate::regs::Registers;

/// Maximum number of bytes that one call transfers (`MAX_RW_COUNT`, read(2)).
pub(super) const MAX_RW: u64 = 0x7fff_f000;

/// One past the highest address of a program with 47-bit addresses; the kernel maps higher only on request.
const USER_END: u64 = 1 << 56;

/// A structure of a fixed size, written as a whole if the call succeeds.
pub(super) const fn fixed(arg: u8, bytes: u64) -> Out {
    Out {
        arg,
        len: Len::Bytes(bytes),
        max: MAX_RW,
        extent: Extent::Success,
        copy_in: false,
    }
}

/// A structure of a fixed size that the kernel also reads, writes in part, or writes even if the call fails.
pub(super) const fn perhaps(arg: u8, bytes: u64) -> Out {
    Out {
        arg,
        len: Len::Bytes(bytes),
        max: MAX_RW,
        extent: Extent::Perhaps,
        copy_in: true,
    }
}

/// The same with a length that is not fixed.
pub(super) const fn perhaps_len(arg: u8, len: Len) -> Out {
    Out {
        arg,
        len,
        max: MAX_RW,
        extent: Extent::Perhaps,
        copy_in: true,
    }
}

/// A buffer of argument `len_arg` bytes. The result is the number of bytes written.
pub(super) const fn buffer(arg: u8, len_arg: u8) -> Out {
    elements(arg, len_arg, 1)
}

/// An array of argument `count_arg` elements. The result is the number of elements written.
pub(super) const fn elements(arg: u8, count_arg: u8, size: u64) -> Out {
    let len = Len::Arg {
        arg: count_arg,
        unit: size,
    };
    Out {
        arg,
        len,
        max: MAX_RW,
        extent: Extent::Result { unit: size, plus: 0 },
        copy_in: false,
    }
}

/// A buffer of argument `len_arg` bytes, all written if the call succeeds.
pub(super) const fn sized(arg: u8, len_arg: u8) -> Out {
    Out {
        arg,
        len: Len::Arg {
            arg: len_arg,
            unit: 1,
        },
        max: MAX_RW,
        extent: Extent::Success,
        copy_in: false,
    }
}

/// A buffer whose capacity is in the word behind argument `count_arg`. After the call the word holds
/// the number of bytes written.
pub(super) const fn counted(arg: u8, count_arg: u8) -> Out {
    let len = Len::At {
        arg: count_arg,
        offset: 0,
        unit: 1,
        plus: 0,
    };
    Out {
        arg,
        len,
        max: MAX_RW,
        extent: Extent::Count {
            arg: count_arg,
            offset: 0,
        },
        copy_in: false,
    }
}

/// A socket address: [`counted`], and never longer than `struct sockaddr_storage`.
pub(super) const fn sockaddr(arg: u8, len_arg: u8) -> Out {
    counted(arg, len_arg).at_most(128)
}

/// The word that holds the capacity of a [`counted`] output before the call and the number of bytes
/// written afterwards.
pub(super) const fn count_word(arg: u8) -> Out {
    perhaps(arg, 4)
}

impl Out {
    /// The kernel leaves gaps (padding) in the bytes that it writes.
    pub(super) const fn with_holes(mut self) -> Out {
        self.copy_in = true;
        self
    }

    /// Written only if the result is above 0.
    pub(super) const fn if_positive(mut self) -> Out {
        self.extent = Extent::Positive;
        self
    }

    /// The kernel touches at most this many bytes.
    pub(super) const fn at_most(mut self, bytes: u64) -> Out {
        self.max = bytes;
        self
    }
}

impl Commands {
    /// Effect on memory of the command in these arguments. `None` if the table does not know the
    /// command.
    pub(super) fn of(&self, entry: &Registers) -> Option<MemorySpec> {
        let command = (entry.arg(usize::from(self.arg)) as u32 >> self.shift) as i32;
        if self.silent.contains(&command) {
            return Some(MemorySpec::None);
        }
        self.cases
            .iter()
            .find(|(c, _)| *c == command)
            .map(|(_, memory)| *memory)
    }
}

/// A call that is recorded, does not wait and writes no memory. The methods below change these
/// properties.
pub(super) const fn call(number: i64, name: &'static str) -> Spec {
    Spec {
        number,
        name,
        class: Class::Recorded,
        blocking: Blocking::Never,
        memory: MemorySpec::None,
        waits_if: None,
        refused_if: None,
        emulated_if: None,
    }
}

impl Spec {
    /// The recorder has its own code for the call.
    pub(super) const fn emulated(mut self, emulated: Emulated) -> Spec {
        self.class = Class::Emulated(emulated);
        self
    }

    /// Not performed; the recorder warns once.
    pub(super) const fn refused(mut self, errno: i32) -> Spec {
        self.class = Class::Refused { errno, quiet: false };
        self
    }

    /// Not performed, without a warning: programs expect the refusal.
    pub(super) const fn refused_quietly(mut self, errno: i32) -> Spec {
        self.class = Class::Refused { errno, quiet: true };
        self
    }

    /// Not performed in this form, which `what` names.
    pub(super) const fn refused_if(mut self, errno: i32, what: &'static str, form: Predicate) -> Spec {
        self.refused_if = Some(RefusedForm { form, errno, what });
        self
    }

    /// The recorder has its own code for the call in this form.
    pub(super) const fn emulated_if(mut self, emulated: Emulated, form: Predicate) -> Spec {
        self.emulated_if = Some((form, emulated));
        self
    }

    /// The call can wait.
    pub(super) const fn blocks(mut self) -> Spec {
        self.blocking = Blocking::Maybe;
        self
    }

    /// The call can wait in this form.
    pub(super) const fn blocks_if(mut self, form: Predicate) -> Spec {
        self.waits_if = Some(form);
        self.blocks()
    }

    /// The call can wait unless the descriptor in this argument is a file.
    pub(super) const fn blocks_on(mut self, fd_arg: u8) -> Spec {
        self.blocking = Blocking::Fd(fd_arg);
        self
    }

    /// The call can wait only in this form.
    pub(super) const fn only_if(mut self, form: Predicate) -> Spec {
        self.waits_if = Some(form);
        self
    }

    /// The call has regular outputs.
    pub(super) const fn outs(mut self, outs: &'static [Out]) -> Spec {
        self.memory = MemorySpec::Outputs(outs);
        self
    }

    /// The `int` in argument `arg` selects one of several commands.
    pub(super) const fn commands(
        mut self,
        arg: u8,
        silent: &'static [i32],
        cases: &'static [(i32, MemorySpec)],
    ) -> Spec {
        self.memory = MemorySpec::Commands(Commands {
            arg,
            shift: 0,
            silent,
            cases,
        });
        self
    }

    /// The call has any other description of its memory.
    pub(super) const fn memory(mut self, memory: MemorySpec) -> Spec {
        self.memory = memory;
        self
    }

    /// Code describes the call's memory.
    pub(super) const fn computed(self, parts: PartsFn, written: WrittenFn) -> Spec {
        self.memory(MemorySpec::Computed { parts, written })
    }
}

/// The parts of a call with regular outputs.
pub(super) fn parts(outs: &[Out], entry: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    let mut parts = Vec::with_capacity(outs.len());
    for out in outs {
        let addr = Addr(entry.arg(usize::from(out.arg)));
        let len = match out.len {
            Len::Bytes(n) => n,
            Len::Arg { arg, unit } => entry.arg(usize::from(arg)).saturating_mul(unit),
            Len::At {
                arg,
                offset,
                unit,
                plus,
            } => {
                let at = Addr(entry.arg(usize::from(arg)));
                let count = if at.is_null() {
                    None
                } else {
                    unless_died(mem.read_u32(at + offset))?
                };
                count.map_or(0, |n| u64::from(n).saturating_mul(unit).saturating_add(plus))
            }
            Len::Of(f) => f(entry),
        };
        let part = Part {
            holder: Holder::Arg(out.arg),
            addr,
            len: len.min(out.max),
            copy_in: out.copy_in,
        };
        push(&mut parts, part, mem)?;
    }
    Ok(parts)
}

/// The bytes that a call with regular outputs has written.
pub(super) fn written(
    outs: &[Out],
    parts: &[Part],
    result: i64,
    read: &ReadPart<'_>,
) -> Result<Vec<Written>> {
    let find = |arg| parts.iter().position(|p| p.holder == Holder::Arg(arg));
    let positive = u64::try_from(result).ok();
    let mut all = Vec::with_capacity(parts.len());
    for out in outs {
        let Some(part) = find(out.arg) else { continue };
        let whole = parts[part].len;
        let len = match (out.extent, positive) {
            (Extent::Perhaps, _) => whole,
            (Extent::Success, Some(_)) => whole,
            (Extent::Positive, Some(1..)) => whole,
            (Extent::Result { unit, plus }, Some(n)) => n.saturating_mul(unit).saturating_add(plus),
            (Extent::Count { arg, offset }, Some(_)) => match find(arg) {
                Some(counter) => u64::from(read_u32(read, counter, offset)?.unwrap_or(0)),
                None => 0,
            },
            (Extent::Field { stride, offset, len }, _) if result >= 0 || is_interrupted(result) => {
                let fields = (0..whole / stride).map(|i| Written {
                    part,
                    offset: i * stride + offset,
                    len,
                });
                all.extend(fields);
                continue;
            }
            _ => 0,
        };
        if len.min(whole) > 0 {
            all.push(Written {
                part,
                offset: 0,
                len: len.min(whole),
            });
        }
    }
    Ok(all)
}

/// `EINTR`, or one of the kernel's own `ERESTART*`, which become `EINTR` or a restart.
fn is_interrupted(result: i64) -> bool {
    result == -i64::from(libc::EINTR) || matches!(result, -516..=-512)
}

/// Adds a part, shortened to one call's maximum and to existing memory. A null pointer adds nothing. A
/// part that is copied in is shortened to its readable bytes. A part whose holder was shortened away
/// adds nothing. Returns the part's index if any bytes are left.
pub(super) fn push(parts: &mut Vec<Part>, mut part: Part, mem: &dyn ReadMemory) -> Result<Option<usize>> {
    if part.addr.is_null() {
        return Ok(None);
    }
    if let Holder::Within { part: outer, offset } = part.holder
        && parts[outer].len < offset + 8
    {
        return Ok(None);
    }
    part.len = part.len.min(MAX_RW).min(USER_END.saturating_sub(part.addr.0));
    if part.copy_in {
        part.len = readable_prefix(part.addr, part.len, &|addr, buf| mem.read(addr, buf))?;
    }
    if part.len == 0 {
        return Ok(None);
    }
    parts.push(part);
    Ok(Some(parts.len() - 1))
}

/// Adds a structure that is useless in parts: nothing if not all of it can be read.
pub(super) fn push_whole(parts: &mut Vec<Part>, part: Part, mem: &dyn ReadMemory) -> Result<Option<usize>> {
    let index = push(parts, part, mem)?;
    if index.is_some_and(|i| parts[i].len < part.len) {
        parts.pop();
        return Ok(None);
    }
    Ok(index)
}

/// Number of bytes from `addr` on that can be read, up to `len`: whole pages except at the end.
pub(super) fn readable_prefix(
    addr: Addr,
    len: u64,
    read: &dyn Fn(Addr, &mut [u8]) -> Result<()>,
) -> Result<u64> {
    const CHUNK: u64 = 1 << 16;
    let mut buf = vec![0; len.min(CHUNK) as usize];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(CHUNK);
        if unless_died(read(addr + done, &mut buf[..n as usize]))?.is_some() {
            done += n;
            continue;
        }
        // The end is in this chunk: go page by page.
        let end = done + n;
        while done < end {
            let n = to_page_end(addr + done).min(end - done);
            if unless_died(read(addr + done, &mut buf[..n as usize]))?.is_none() {
                return Ok(done);
            }
            done += n;
        }
    }
    Ok(done)
}

/// The value read, or `None` if that memory cannot be read. The death of the task stays an error.
pub(super) fn unless_died<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Error::Died(tid)) => Err(Error::Died(tid)),
        Err(_) => Ok(None),
    }
}

/// A 32-bit word of a part after the call.
pub(super) fn read_u32(read: &ReadPart<'_>, part: usize, offset: u64) -> Result<Option<u32>> {
    let mut b = [0; 4];
    Ok(unless_died(read(part, offset, &mut b))?.map(|()| u32::from_le_bytes(b)))
}

/// Bytes from `addr` to the end of its page.
fn to_page_end(addr: Addr) -> u64 {
    PAGE - (addr.0 & (PAGE - 1))
}

//! The declarative system call table of x86-64.
//!
//! For every call it says how the recorder treats it ([`Class`]), whether it can
//! wait ([`Blocking`]), and which memory the kernel reads indirectly and writes
//! ([`Part`], [`Written`]). A new call is one entry here and nothing elsewhere (unless it
//! shapes tasks or address spaces, which is a [`Special`]). Invariant kept here: **I2**. A call, or a
//! command of a multiplexed call, whose effect on memory is not described is refused or
//! reported ([`Spec::unknown_effect`]), never taken to have none.
//!
//! A call's memory is described as *parts*. Where a call may block, the recorder
//! moves its parts into scratch memory, so that the kernel writes there and not
//! where other tasks could see it too early (I3); then it copies what was written to the real place.
//! Hence parts know who holds the pointer to them ([`Holder`]).
//!
//! ```text
//! readv(fd, iov, 2)      part 0: the iovec array  (Holder::Arg(1), copy_in)
//!                        part 1: buffer 1         (Holder::Within { part: 0, offset: 0 })
//!                        part 2: buffer 2         (Holder::Within { part: 0, offset: 16 })
//! result 100             written: part 1 bytes 0..64, part 2 bytes 0..36
//! ```
//!
//! # What holds for parts
//!
//! * A part with `copy_in` was readable at entry in its whole length. Only such a part can have bytes
//!   declared as written that the kernel left alone: they are then recorded unchanged.
//! * A part without `copy_in` is written exactly where [`Spec::written`] says, so it may be
//!   redirected to scratch memory with arbitrary contents. Whether its memory can be written at
//!   all has not been checked: the kernel answers that (`EFAULT`).
//! * Null pointers, and pointers that lead nowhere readable where we must read, give no part; the kernel decides
//!   what the call is then worth.
//! * Lengths are the program's and untrusted: they are cut to what the kernel accepts.
//! * A call that fails with `EFAULT` midway can have written some bytes; see [`Spec::touchable`].
//! * Futex words are never redirected, because their address is their identity: the futex calls that wait have no parts.
//!
//! # Where things stand
//!
//! | module | what |
//! |---|---|
//! | this one | types, lookup, and what can be asked of a [`Spec`] |
//! | `forms` | the words that the tables are written in: `call(..)`, `fixed(..)`, `buffer(..)` … |
//! | `vectors` | `iovec` arrays and `msghdr`s, for which no word is enough |
//! | `files`, `memory`, `process` … | the tables, one file per family |
//! | `ioctl` | requests, one file per kind of device |
//!
//! Sources: section 2 of the manual pages, the kernel's uapi headers, and for what neither says (what is
//! written when a call fails, which bytes of a structure stay untouched) experiment: `tests` performs the calls.

mod files;
mod forms;
mod identity;
mod ioctl;
mod ipc;
mod keys;
mod memory;
mod metadata;
mod obsolete;
mod options;
mod polling;
mod process;
mod signals;
mod sockets;
mod system;
#[cfg(test)]
mod tests;
mod time;
mod vectors;

use std::borrow::Cow;
use std::fmt::Write as _;

pub use forms::{Commands, Extent, Len, Out};

use rr_preload::layout::COUNTER_NUMBER;

use crate::error::Result;
use crate::ids::{Addr, PAGE};
use crate::memory::ReadMemory;
use crate::regs::Registers;

/// One system call.
#[derive(Debug)]
pub struct Spec {
    /// Its number on x86-64.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// What the recorder does about it, as far as the number alone decides: see [`Spec::class_of`].
    pub class: Class,
    /// Whether it can wait for something that other recorded tasks, or the world, must do, as far as
    /// the number alone decides: see [`Spec::blocking_of`].
    pub blocking: Blocking,
    /// The memory that it writes.
    pub memory: MemorySpec,
    /// It waits only if this holds of its arguments (no `O_NONBLOCK`, a timeout other than 0 …).
    pub waits_if: Option<Predicate>,
    /// It is refused in this form.
    pub refused_if: Option<RefusedForm>,
}

/// A form of a call that is refused, while others are not.
#[derive(Clone, Copy, Debug)]
pub struct RefusedForm {
    /// Whether arguments have this form.
    pub form: Predicate,
    /// The program gets this errno.
    pub errno: i32,
    /// What it is, for the documentation.
    pub what: &'static str,
}

/// Something that can be said of a call's arguments.
pub type Predicate = fn(&Registers) -> bool;

/// What the recorder does about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Let the kernel perform it; record the result and the memory written. Replay only gives these back.
    Recorded,
    /// It shapes tasks or address spaces, or its answer is ours: the recorder has code for it.
    Special(Special),
    /// Not performed; the program gets this error (a positive errno). Warn once unless `quiet`.
    Refused {
        /// The errno.
        errno: i32,
        /// Programs probe for it as a matter of course: no warning.
        quiet: bool,
    },
}

/// Calls that the recorder has code for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the calls' own names
pub enum Special {
    Mmap,
    Munmap,
    /// `mprotect`, `pkey_mprotect` (the same first three arguments).
    Mprotect,
    Mremap,
    Brk,
    Madvise,
    Shmat,
    Shmdt,
    /// `clone`, `fork`, `vfork`. The table gives the words written in the parent (`parent_tid`,
    /// pidfd); `child_tid` lies in the child's memory and is the recorder's business.
    Clone,
    /// `execve`, `execveat`.
    Exec,
    /// `exit`, `exit_group`.
    Exit,
    RtSigreturn,
    ArchPrctl,
    SetTidAddress,
    SchedSetaffinity,
    SchedGetaffinity,
    Prctl,
    Seccomp,
    /// Carried out by the recorder, which is the one real tracer.
    Ptrace,
}

/// Whether a call can wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocking {
    /// Never longer than a disk takes.
    Never,
    /// Possibly.
    Maybe,
    /// Possibly, unless the descriptor in this argument is a regular file, a directory or a block device.
    Fd(u8),
}

/// How a call's memory is found.
#[derive(Clone, Copy, Debug)]
pub enum MemorySpec {
    /// It writes none.
    None,
    /// One regular output.
    One(Out),
    /// Regular outputs: each is behind an argument, with a length that arguments or a word in memory give.
    Outputs(&'static [Out]),
    /// A multiplexed call: what one argument says decides.
    Commands(Commands),
    /// Code decides by the arguments; `None`: nobody knows what this form writes.
    Choice(fn(&Registers) -> Option<MemorySpec>),
    /// Code finds the parts and what was written.
    Irregular {
        /// At entry.
        parts: PartsFn,
        /// At exit.
        written: WrittenFn,
    },
}

/// Who holds the pointer to a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// System call argument 0 to 5.
    Arg(u8),
    /// A 64-bit word at this byte offset of an earlier part.
    Within {
        /// Index of the earlier part.
        part: usize,
        /// Byte offset in it.
        offset: u64,
    },
}

/// A piece of tracee memory that a call refers to and may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Who points to it.
    pub holder: Holder,
    /// Where it is.
    pub addr: Addr,
    /// How many bytes the call may touch.
    pub len: u64,
    /// The kernel also reads it, or does not write all that is declared as written,
    /// so a scratch copy must begin with its contents.
    pub copy_in: bool,
}

/// Bytes of a part that the kernel has written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Index of the part.
    pub part: usize,
    /// First byte in it.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// Reads bytes of a part as they are after the call, wherever the part was placed.
pub type ReadPart<'a> = dyn Fn(usize, u64, &mut [u8]) -> Result<()> + 'a;

/// How to find the parts of a call at its entry.
pub type PartsFn = fn(&Registers, &dyn ReadMemory) -> Result<Vec<Part>>;

/// How to find what was written, at its exit: entry registers, parts, result (negative: −errno).
pub type WrittenFn = fn(&Registers, &[Part], i64, &ReadPart<'_>) -> Result<Vec<Written>>;

impl Spec {
    /// The memory that this call may touch. `entry` holds its arguments.
    ///
    /// Fails only if the task died.
    pub fn parts(&self, entry: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
        match self.resolve(entry) {
            None | Some(MemorySpec::None) => Ok(Vec::new()),
            Some(MemorySpec::Irregular { parts, .. }) => parts(entry, mem),
            Some(regular) => forms::parts(regular.outs(), entry, mem),
        }
    }

    /// What the call has written. `entry` holds its arguments as the program gave them, `parts` is what
    /// [`Spec::parts`] said at entry, `result` the kernel's answer (negative: −errno, or −512 to
    /// −516 where the kernel is about to restart the call), `read` reads the parts where they were placed.
    ///
    /// Fails only if the task died.
    pub fn written(
        &self,
        entry: &Registers,
        parts: &[Part],
        result: i64,
        read: &ReadPart<'_>,
    ) -> Result<Vec<Written>> {
        match self.resolve(entry) {
            None | Some(MemorySpec::None) => Ok(Vec::new()),
            Some(MemorySpec::Irregular { written, .. }) => written(entry, parts, result, read),
            Some(regular) => forms::written(regular.outs(), parts, result, read),
        }
    }

    /// All bytes of `parts` that can be read, up to the first page of each that cannot.
    ///
    /// For calls that answer `EFAULT`: the kernel may have written some bytes before it
    /// came to the bad page, and nothing says which. Recording these ranges of the parts that were
    /// *left in place* is right whatever it did. Redirected parts need nothing: the program's memory is untouched.
    pub fn touchable(parts: &[Part], read: &ReadPart<'_>) -> Result<Vec<Written>> {
        let mut out = Vec::new();
        for (part, p) in parts.iter().enumerate() {
            let at = |from: Addr, buf: &mut [u8]| read(part, from - p.addr, buf);
            let len = forms::readable_prefix(p.addr, p.len, &at)?;
            if len > 0 {
                out.push(Written { part, offset: 0, len });
            }
        }
        Ok(out)
    }

    /// Whether nobody knows which memory this call has written: a command of a multiplexed call
    /// that is not in the table has succeeded. The recorder must say so; what follows may not replay.
    pub fn unknown_effect(&self, entry: &Registers, result: i64) -> bool {
        result >= 0 && self.resolve(entry).is_none()
    }

    /// What to do about a call with these arguments.
    pub fn class_of(&self, entry: &Registers) -> Class {
        match self.refused_if {
            Some(refused) if (refused.form)(entry) => Class::Refused {
                errno: refused.errno,
                quiet: false,
            },
            _ => self.class,
        }
    }

    /// Whether a call with these arguments can wait.
    pub fn blocking_of(&self, entry: &Registers) -> Blocking {
        match self.waits_if {
            Some(waits) if !waits(entry) => Blocking::Never,
            _ => self.blocking,
        }
    }

    /// The description that applies to these arguments.
    fn resolve(&self, entry: &Registers) -> Option<MemorySpec> {
        self.memory.resolve(entry)
    }
}

impl MemorySpec {
    /// Follows [`MemorySpec::Commands`] and [`MemorySpec::Choice`] to what describes these arguments.
    fn resolve(self, entry: &Registers) -> Option<MemorySpec> {
        match self {
            MemorySpec::Commands(commands) => commands.of(entry)?.resolve(entry),
            MemorySpec::Choice(choose) => choose(entry)?.resolve(entry),
            plain => Some(plain),
        }
    }

    /// The outputs of a regular form.
    fn outs(&self) -> &[Out] {
        match self {
            MemorySpec::One(out) => std::slice::from_ref(out),
            MemorySpec::Outputs(outs) => outs,
            _ => &[],
        }
    }
}

/// One past the highest number that the table has room for.
const NUMBERS: usize = 512;

/// All tables, in the order of their file names.
static FAMILIES: [&[Spec]; 13] = [
    files::CALLS,
    identity::CALLS,
    ipc::CALLS,
    keys::CALLS,
    memory::CALLS,
    metadata::CALLS,
    obsolete::CALLS,
    polling::CALLS,
    process::CALLS,
    signals::CALLS,
    sockets::CALLS,
    system::CALLS,
    time::CALLS,
];

static TABLE: [Option<&'static Spec>; NUMBERS] = index();

/// The calls by number. Evaluated by the compiler: a number that is given twice does not compile.
const fn index() -> [Option<&'static Spec>; NUMBERS] {
    let mut table = [None; NUMBERS];
    let mut family = 0;
    while family < FAMILIES.len() {
        let calls = FAMILIES[family];
        let mut i = 0;
        while i < calls.len() {
            let number = calls[i].number as usize;
            assert!(table[number].is_none(), "two system calls of one number");
            table[number] = Some(&calls[i]);
            i += 1;
        }
        family += 1;
    }
    table
}

/// The call of this number, if we know it. What we do not know is to be refused with `ENOSYS`.
pub fn lookup(number: i64) -> Option<&'static Spec> {
    usize::try_from(number)
        .ok()
        .and_then(|n| TABLE.get(n).copied().flatten())
}

/// The name of a call, or `syscall_N` if we know none.
pub fn name(number: i64) -> Cow<'static, str> {
    match lookup(number) {
        Some(spec) => Cow::Borrowed(spec.name),
        None => Cow::Owned(format!("syscall_{number}")),
    }
}

/// The name of what a record of the library is about: a call, or `rdtsc`, which goes the same way.
pub fn buffered_name(number: i64) -> Cow<'static, str> {
    if number == COUNTER_NUMBER as i64 {
        return "rdtsc".into();
    }
    name(number)
}

/// All calls in order of their numbers.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().copied().flatten()
}

/// What is done about a call, in words for the documentation.
fn class_in_words(spec: &Spec) -> String {
    let errno = |errno| format!("{:?}", nix::errno::Errno::from_raw(errno));
    let mut words = match spec.class {
        Class::Recorded => "recorded".to_owned(),
        Class::Special(Special::SchedGetaffinity | Special::SchedSetaffinity) => "answered by rr".to_owned(),
        Class::Special(Special::Ptrace) => "carried out by rr".to_owned(),
        Class::Special(
            Special::RtSigreturn | Special::ArchPrctl | Special::SetTidAddress | Special::Prctl,
        ) => "recorded".to_owned(),
        Class::Special(_) => "performed".to_owned(),
        Class::Refused {
            errno: e,
            quiet: false,
        } => format!("refused: {}", errno(e)),
        Class::Refused {
            errno: e,
            quiet: true,
        } => format!("refused: {}, no warning", errno(e)),
    };
    if let Some(form) = spec.refused_if {
        // Writing to a String cannot fail.
        let _ = write!(words, "; {}: {}", form.what, errno(form.errno));
    }
    words
}

/// The whole table in markdown, for the documentation: number, name, class, whether it can wait.
pub fn status_table() -> String {
    let mut out = String::from("| number | name | class | may wait |\n|---:|---|---|---|\n");
    for spec in all() {
        let wait = match (spec.blocking, spec.waits_if) {
            (Blocking::Never, _) => "",
            (Blocking::Maybe, None) => "yes",
            (Blocking::Maybe, Some(_)) => "in some forms",
            (Blocking::Fd(_), _) => "unless a file",
        };
        let class = class_in_words(spec);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} | `{}` | {class} | {wait} |", spec.number, spec.name);
    }
    out
}

/// Bytes from `addr` to the end of its page.
fn to_page_end(addr: Addr) -> u64 {
    PAGE - (addr.0 & (PAGE - 1))
}

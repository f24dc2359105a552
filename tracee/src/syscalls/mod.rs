//! The declarative system call table of x86-64.
//!
//! Each entry says how the recorder treats a call ([`Class`]), whether the call can wait
//! ([`Blocking`]), and which memory the kernel reads indirectly and writes ([`Part`], [`Written`]). A
//! new call is one entry here and nothing elsewhere (unless it shapes tasks or address spaces: then it
//! is a [`Emulated`]). Invariant kept here: **I2**. If the effect on memory of a call, or of a command
//! of a multiplexed call, is not described, the call is refused or reported ([`Spec::unknown_effect`]).
//! It is never assumed to have no effect.
//!
//! The memory of a call is described as *parts*. Where a call may block, the recorder moves its parts
//! into scratch memory, so that the kernel writes there and not where other tasks could see the bytes
//! too early (I3). Then it copies the written bytes to the real place. So each part knows the holder of
//! its pointer ([`Holder`]).
//!
//! ```text
//! readv(fd, iov, 2)      part 0: the iovec array  (Holder::Arg(1), copy_in)
//!                        part 1: buffer 1         (Holder::Within { part: 0, offset: 0 })
//!                        part 2: buffer 2         (Holder::Within { part: 0, offset: 16 })
//! result 100             written: part 1 bytes 0..64, part 2 bytes 0..36
//! ```
//!
//! # Rules for parts
//!
//! - A part with `copy_in` was completely readable at entry. Only such a part can have bytes declared
//!   as written that the kernel did not write: they are recorded unchanged.
//! - A part without `copy_in` is written exactly where [`Spec::written`] says, so it may be redirected
//!   to scratch memory with arbitrary contents. Nobody has checked that its memory can be written: the
//!   kernel does (`EFAULT`).
//! - A null pointer, or a pointer to unreadable memory that we must read, gives no part. The kernel
//!   decides the call's result.
//! - Lengths come from the program and are untrusted: they are limited to the kernel's maximum.
//! - A call that fails with `EFAULT` midway can have written some bytes; see [`Spec::touchable`].
//! - Futex words are never redirected, because their address is their identity. The futex calls that
//!   wait have no parts.
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | this one | lookup, and questions to a [`Spec`] |
//! | `spec` | the types of an entry |
//! | `forms` | the vocabulary of the tables: `call(..)`, `fixed(..)`, `buffer(..)` … |
//! | `vectors` | `iovec` arrays and `msghdr`s, which need code |
//! | `creation` | `clone`, `clone3`, `fork` and `vfork` in one form |
//! | `files`, `memory`, `process` … | the tables, one file per family |
//! | `ioctl` | requests, one file per kind of device |
//!
//! Sources: section 2 of the manual pages, and the kernel's uapi headers. Experiments answer the rest
//! (the bytes written by a failing call, the bytes of a structure that stay untouched): `tests`
//! performs the calls.

mod aio;
mod creation;
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
mod spec;
mod system;
#[cfg(test)]
mod tests;
mod time;
mod vectors;

use std::borrow::Cow;
use std::fmt::Write as _;

pub use creation::Creation;
pub use spec::{
    Blocking, Class, Commands, Emulated, Extent, Holder, Len, MemorySpec, Out, Part, PartsFn, Predicate,
    ReadPart, RefusedForm, Spec, Written, WrittenFn,
};

use rr_preload::layout::{COUNTER_AND_PROCESSOR_NUMBER, COUNTER_NUMBER, CPUID_NUMBER};

use crate::error::Result;
use crate::ids::Addr;
use crate::memory::ReadMemory;
use crate::regs::Registers;

impl Spec {
    /// The memory that this call may touch. `entry` holds its arguments.
    ///
    /// Fails only if the task died.
    pub fn parts(&self, entry: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
        match self.resolve(entry) {
            None | Some(MemorySpec::None) => Ok(Vec::new()),
            Some(MemorySpec::Computed { parts, .. }) => parts(entry, mem),
            Some(regular) => forms::parts(regular.outs(), entry, mem),
        }
    }

    /// The bytes that the call has written. `entry` holds the program's arguments, `parts` is the value
    /// of [`Spec::parts`] at entry, `result` is the kernel's answer (negative: −errno, or −512 to −516
    /// if the kernel is about to restart the call), `read` reads the parts where they were placed.
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
            Some(MemorySpec::Computed { written, .. }) => written(entry, parts, result, read),
            Some(regular) => forms::written(regular.outs(), parts, result, read),
        }
    }

    /// All bytes of `parts` that can be read, up to the first page of each that cannot.
    ///
    /// For calls that fail with `EFAULT`: the kernel may have written some bytes before it came to the
    /// bad page, and nothing says which. Recording these ranges of the parts that were *left in place*
    /// is right in any case. Redirected parts need nothing: the program's memory is untouched.
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

    /// Returns whether the memory that this call has written is unknown: a command of a multiplexed
    /// call that is not in the table has succeeded. The recorder must say so, because the rest of the
    /// trace may not replay.
    pub fn unknown_effect(&self, entry: &Registers, result: i64) -> bool {
        result >= 0 && self.resolve(entry).is_none()
    }

    /// The class of a call with these arguments.
    pub fn class_of(&self, entry: &Registers) -> Class {
        match self.refused_if {
            Some(refused) if (refused.form)(entry) => Class::Refused {
                errno: refused.errno,
                quiet: false,
            },
            _ => match self.emulated_if {
                Some((form, emulated)) if form(entry) => Class::Emulated(emulated),
                _ => self.class,
            },
        }
    }

    /// Returns whether a call with these arguments can wait.
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
    /// Follows [`MemorySpec::Commands`] and [`MemorySpec::Choice`] to the description of these
    /// arguments.
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
static FAMILIES: [&[Spec]; 14] = [
    aio::CALLS,
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

/// The calls by number. The compiler evaluates this: a duplicate number does not compile.
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

/// The call of this number, if we know it. Unknown calls must be refused with `ENOSYS`.
pub fn lookup(number: i64) -> Option<&'static Spec> {
    usize::try_from(number)
        .ok()
        .and_then(|n| TABLE.get(n).copied().flatten())
}

/// The last Linux whose calls are all in the table.
const KNOWN_LINUX: (u32, u32) = (6, 18);

/// The bit of the numbers of the x32 interface.
const X32: i64 = 0x4000_0000;

/// Returns whether a kernel of this release may know a call that is not in the table.
pub fn may_exist(number: i64, linux: (u32, u32), has_x32: bool) -> bool {
    // Between the two ranges, numbers are left out so that all architectures agree on the later ones. The
    // numbers of x32 alone come after them.
    const LEFT_OUT: std::ops::RangeInclusive<i64> = 337..=423;
    match number {
        x32 if x32 >= 0 && x32 & X32 != 0 => has_x32,
        0..512 => linux > KNOWN_LINUX && !LEFT_OUT.contains(&number),
        548.. => linux > KNOWN_LINUX && number < 1024,
        _ => false,
    }
}

/// The name of a call, or `syscall_N` if it is unknown.
pub fn name(number: i64) -> Cow<'static, str> {
    match lookup(number) {
        Some(spec) => Cow::Borrowed(spec.name),
        None => Cow::Owned(format!("syscall_{number}")),
    }
}

/// The name of a record's call, or `rdtsc`, `rdtscp` or `cpuid`, which have records, too.
pub fn buffered_name(number: i64) -> Cow<'static, str> {
    match number as u64 {
        COUNTER_NUMBER => "rdtsc".into(),
        COUNTER_AND_PROCESSOR_NUMBER => "rdtscp".into(),
        CPUID_NUMBER => "cpuid".into(),
        _ => name(number),
    }
}

/// All calls in order of their numbers.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().copied().flatten()
}

/// The class of a call in words for the documentation.
fn class_in_words(spec: &Spec) -> String {
    let errno = |errno| format!("{:?}", nix::errno::Errno::from_raw(errno));
    let mut words = match spec.class {
        Class::Recorded => "recorded".to_owned(),
        Class::Emulated(Emulated::SchedGetaffinity | Emulated::SchedSetaffinity) => {
            "answered by rr".to_owned()
        }
        Class::Emulated(
            Emulated::Ptrace
            | Emulated::Seccomp
            | Emulated::Rseq
            | Emulated::Userfaultfd
            | Emulated::UserfaultIoctl,
        ) => "carried out by rr".to_owned(),
        Class::Emulated(
            Emulated::RtSigreturn
            | Emulated::ArchPrctl
            | Emulated::SetTidAddress
            | Emulated::Prctl
            | Emulated::Personality
            | Emulated::Mseal
            | Emulated::Mlock
            | Emulated::Pkey
            | Emulated::IoSubmit,
        ) => "recorded".to_owned(),
        Class::Emulated(_) => "performed".to_owned(),
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

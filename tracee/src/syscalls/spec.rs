//! The shape of a table entry: what can be said of a system call, and of the memory that it refers to.

use crate::error::Result;
use crate::ids::Addr;
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

/// One output of a regular call.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// The argument that points to it.
    pub arg: u8,
    /// Its length in bytes.
    pub len: Len,
    /// The kernel cuts the length to this.
    pub max: u64,
    /// What of it is written.
    pub extent: Extent,
    /// See [`Part::copy_in`].
    pub copy_in: bool,
}

/// The length of an output, known at entry.
#[derive(Clone, Copy, Debug)]
pub enum Len {
    /// So many bytes.
    Bytes(u64),
    /// The value of argument `arg`, times `unit`.
    Arg {
        /// The argument with the count.
        arg: u8,
        /// Bytes for each.
        unit: u64,
    },
    /// The 32-bit word `offset` bytes behind the address in `arg`, times `unit`, plus `plus`.
    At {
        /// The argument that points to the structure with the count.
        arg: u8,
        /// Where in the structure the count is.
        offset: u64,
        /// Bytes for each.
        unit: u64,
        /// Bytes that are there in any case.
        plus: u64,
    },
    /// What a function of the arguments says.
    Of(fn(&Registers) -> u64),
}

/// Which bytes of an output are written.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// All, if the call succeeds.
    Success,
    /// All, if the result is above 0.
    Positive,
    /// If the call succeeds: the result, times `unit`, plus `plus`.
    Result {
        /// Bytes for each.
        unit: u64,
        /// Bytes in front that are there in any case.
        plus: u64,
    },
    /// If the call succeeds: as many as the 32-bit word at this byte offset behind this argument says *after* the call.
    Count {
        /// The argument that points to the structure with the count (an output as well).
        arg: u8,
        /// Where in the structure the count is.
        offset: u64,
    },
    /// Any of it, whatever the result.
    Perhaps,
    /// In every element of `stride` bytes, `len` bytes at `offset`, if the call succeeds or is interrupted.
    Field {
        /// Size of an element.
        stride: u64,
        /// Where in the element the kernel writes.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
}

/// A multiplexed call: an argument chooses among commands.
#[derive(Clone, Copy, Debug)]
pub struct Commands {
    /// The argument (an `int`).
    pub arg: u8,
    /// The command is the argument shifted right by so many bits.
    pub shift: u8,
    /// Commands that write no memory.
    pub silent: &'static [i32],
    /// Commands that do.
    pub cases: &'static [(i32, MemorySpec)],
}

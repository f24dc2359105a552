//! The types of a table entry: properties of a system call, and of the memory that it refers to.

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
    /// The recorder's treatment of the call, as far as the number alone decides: see
    /// [`Spec::class_of`].
    pub class: Class,
    /// Says if the call can wait for something that other recorded tasks, or the world, must do, as far
    /// as the number alone decides: see [`Spec::blocking_of`].
    pub blocking: Blocking,
    /// The memory that the call writes.
    pub memory: MemorySpec,
    /// The call waits only if this is true of its arguments (no `O_NONBLOCK`, a timeout other than 0
    /// …).
    pub waits_if: Option<Predicate>,
    /// The form in which the call is refused.
    pub refused_if: Option<RefusedForm>,
    /// The form that the recorder has its own code for.
    pub emulated_if: Option<(Predicate, Emulated)>,
}

/// A form of a call that is refused, while others are not.
#[derive(Clone, Copy, Debug)]
pub struct RefusedForm {
    /// True for arguments of this form.
    pub form: Predicate,
    /// The errno that the program gets.
    pub errno: i32,
    /// Name of the form, for the documentation.
    pub what: &'static str,
}

/// A property of a call's arguments.
pub type Predicate = fn(&Registers) -> bool;

/// The recorder's treatment of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The kernel performs the call. The recorder stores the result and the memory written. Replay only
    /// returns these.
    Recorded,
    /// The call shapes tasks or address spaces, or rr answers it: the recorder has its own code for it.
    Emulated(Emulated),
    /// The call is not performed, and the program gets this error (a positive errno). The recorder
    /// warns once unless `quiet`.
    Refused {
        /// The errno.
        errno: i32,
        /// No warning: programs routinely try the call.
        quiet: bool,
    },
}

/// Calls that the recorder has its own code for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the calls' own names
pub enum Emulated {
    Mmap,
    Munmap,
    /// `mprotect`, `pkey_mprotect` (the same first three arguments).
    Mprotect,
    Mremap,
    Brk,
    Madvise,
    /// `mlock`, `mlock2`, `mlockall`: replay locks nothing.
    Mlock,
    ProcessMadvise,
    /// Seals only what the program does: in replay nothing is sealed, and no call fails because of it.
    Mseal,
    /// `pkey_alloc`, `pkey_free`.
    Pkey,
    /// The file is an ordinary memfd, because rr must read the memory.
    MemfdSecret,
    Shmat,
    Shmdt,
    /// `clone`, `clone3`, `fork`, `vfork`. The table gives the words written in the parent (`parent_tid`,
    /// pidfd). `child_tid` lies in the child's memory, and the recorder handles it.
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
    Personality,
    Seccomp,
    Rseq,
    IoSetup,
    IoDestroy,
    IoSubmit,
    /// The recorder carries it out, because it is the only real tracer.
    Ptrace,
    /// The program gets a pipe, and the recorder sends the messages.
    Userfaultfd,
    /// Requests of `ioctl` for a descriptor of `userfaultfd`.
    UserfaultIoctl,
}

/// Says if a call can wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocking {
    /// Waits for a disk at most.
    Never,
    /// May wait.
    Maybe,
    /// May wait, unless the descriptor in this argument is a regular file, a directory or a block
    /// device.
    Fd(u8),
}

/// The way to find a call's memory.
#[derive(Clone, Copy, Debug)]
pub enum MemorySpec {
    /// The call writes no memory.
    None,
    /// One regular output.
    One(Out),
    /// Regular outputs: each is behind an argument, and arguments or a word in memory give its length.
    Outputs(&'static [Out]),
    /// A multiplexed call: one argument selects the command.
    Commands(Commands),
    /// Code decides by the arguments. `None` means that the memory written in this form is unknown.
    Choice(fn(&Registers) -> Option<MemorySpec>),
    /// Code finds the parts and the written bytes.
    Computed {
        /// At entry.
        parts: PartsFn,
        /// At exit.
        written: WrittenFn,
    },
}

/// Holder of the pointer to a part.
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
    /// Holder of the pointer.
    pub holder: Holder,
    /// Address of the part.
    pub addr: Addr,
    /// Number of bytes that the call may touch.
    pub len: u64,
    /// True if the kernel also reads the part, or may write less than is declared as written: a scratch
    /// copy must begin with the part's contents.
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

/// Finds the parts of a call at its entry.
pub type PartsFn = fn(&Registers, &dyn ReadMemory) -> Result<Vec<Part>>;

/// Finds the written bytes at a call's exit, from entry registers, parts and result (negative: −errno).
pub type WrittenFn = fn(&Registers, &[Part], i64, &ReadPart<'_>) -> Result<Vec<Written>>;

/// One output of a regular call.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// The argument that points to it.
    pub arg: u8,
    /// Its length in bytes.
    pub len: Len,
    /// Maximum length that the kernel uses.
    pub max: u64,
    /// The bytes that are written.
    pub extent: Extent,
    /// See [`Part::copy_in`].
    pub copy_in: bool,
}

/// The length of an output, known at entry.
#[derive(Clone, Copy, Debug)]
pub enum Len {
    /// This many bytes.
    Bytes(u64),
    /// The value of argument `arg`, times `unit`.
    Arg {
        /// The argument with the count.
        arg: u8,
        /// Bytes for each element.
        unit: u64,
    },
    /// The 32-bit word `offset` bytes behind the address in `arg`, times `unit`, plus `plus`.
    At {
        /// The argument that points to the structure with the count.
        arg: u8,
        /// Offset of the count in the structure.
        offset: u64,
        /// Bytes for each element.
        unit: u64,
        /// Bytes without the array.
        plus: u64,
    },
    /// A function of the arguments.
    Of(fn(&Registers) -> u64),
}

/// The bytes of an output that are written.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// All, if the call succeeds.
    Success,
    /// All, if the result is above 0.
    Positive,
    /// If the call succeeds: the result times `unit`, plus `plus` bytes.
    Result {
        /// Bytes for each element.
        unit: u64,
        /// Bytes in front of the elements.
        plus: u64,
    },
    /// If the call succeeds: the number of bytes in the 32-bit word at this byte offset behind this
    /// argument *after* the call.
    Count {
        /// The argument that points to the structure with the count (an output as well).
        arg: u8,
        /// Offset of the count in the structure.
        offset: u64,
    },
    /// Perhaps any byte, whatever the result.
    Perhaps,
    /// If the call succeeds or is interrupted: `len` bytes at `offset` in every element of `stride`
    /// bytes.
    Field {
        /// Size of an element.
        stride: u64,
        /// Offset of the field in the element.
        offset: u64,
        /// Length of the field.
        len: u64,
    },
}

/// A multiplexed call: an argument chooses among commands.
#[derive(Clone, Copy, Debug)]
pub struct Commands {
    /// The argument (an `int`).
    pub arg: u8,
    /// The command is the argument shifted right by this many bits.
    pub shift: u8,
    /// Commands that write no memory.
    pub silent: &'static [i32],
    /// Commands that write memory, and their descriptions.
    pub cases: &'static [(i32, MemorySpec)],
}

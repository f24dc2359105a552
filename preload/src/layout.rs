//! Where the library's memory lies, and what it holds. Shared between the library and the rest of rr.
//!
//! ```text
//! 0x7000_0000 code     r-x  `syscall; ret`: the instruction whose calls the seccomp filter lets pass
//!        +16                BAIL: gives up the call under way: it will be a traced one
//!        +32                REMOTE: makes calls for the recorder, then one that stops (tracee/src/remote.rs)
//!        +80                ENTRY: where the stubs jump to
//!                           … the rest of the library
//! 0x7001_0000 param    rw-  one page: paths and structures for our remote system calls
//! 0x7001_1000 control  rw-  one page: [`Control`]
//! 0x7001_2000 stack    rw-  two pages: the library's own stack
//! 0x7001_4000 records  rw-  RECORDS_BYTES: the system call buffer
//! 0x7005_4000 scratch  rw-  where the kernel puts the outputs of traced calls that block
//! 0x7785_4000 ring     rw-  RING_SLOTS × RECORDS_BYTES, shared with the recorder: the buffer of who records much
//! ```
//!
//! # The way of a buffered call
//!
//! ```text
//! site−5  mov eax, 1      ──── replaced by ───►  jmp stub ──► mov eax, 1 (moved)
//! site    syscall   ◄─────────────────────────────┐           Control.go_on = site
//! site+2  …         ◄─────────────────────────────┤           jmp ENTRY ──► the library
//!                                                 └── jmp [go_on] ◄─────── site: not handled; site+2: handled
//! ```
//!
//! The `syscall` instruction itself stays where it is: what the library does not handle is made by it, in the program's
//! own state, and traced as if there were no library. So no stop ever happens inside the library on purpose, and it has
//! no state that lives from one call to the next but the records.
//!
//! At a `rdtsc` or `rdtscp` it is the same, but for a word that the stub writes before (`Control.site`); `rdtscp` has three bytes.
//!
//! # Records
//!
//! One after the other from [`Control::records`] on, [`Control::used`] bytes in all:
//!
//! ```text
//! u64  bits 0–11 number of the call, 12–31 length of the outputs, 32–63 hash of the registers at the call
//! i64  result
//!      outputs, one after the other, filled up with zeros to a multiple of 8
//! ```
//!
//! A call that changes the address space has no outputs, but three words that say what it has changed
//! (`library/shaping.rs`). A call that hands bytes of the program to the outside world has the digest of these behind its
//! outputs, in four bytes ([`crate::payload`]; records of older traces have none).
//!
//! Where the outputs belong, the same function of the library says while recording and in replay, from number, arguments
//! and result. Between two traced events of a task the recorder takes the records out; replay puts them in before
//! the task runs, and they are used up when it arrives at the event.

/// Where the code of the library lies.
pub const CODE: u64 = 0x7000_0000;
/// Room for the code.
pub const CODE_BYTES: u64 = 0x1_0000;
/// The only `syscall` instruction that is not traced.
pub const SYSCALL: u64 = CODE;
/// Where the recorder sends a task whose call cannot be finished by the library (a fault, a call that blocks).
pub const BAIL: u64 = CODE + 16;
/// Makes calls for the recorder: as many as `rbx` says, with what a list on the stack says.
pub const REMOTE: u64 = CODE + 32;
/// Where a call that is made there returns to.
pub const REMOTE_NEXT: u64 = CODE + 47;
/// Behind the call there that ends with a stop; the result of the last of those before is in `rbp`.
pub const REMOTE_STOP: u64 = CODE + 69;
/// A stack for a single call: a word that is [`REMOTE_NEXT`].
pub const REMOTE_RETURN: u64 = CODE + 72;
/// The call that stops the task. It is never made.
pub const REMOTE_LAST: u64 = 39;
/// Where stubs jump to, with [`Control::go_on`] set.
pub const ENTRY: u64 = CODE + 80;
/// A page for parameters of remote system calls.
pub const PARAM: u64 = CODE + CODE_BYTES;
/// The page with [`Control`].
pub const CONTROL: u64 = PARAM + 0x1000;
/// The library's stack.
pub const STACK: u64 = CONTROL + 0x1000;
/// End of the stack.
pub const STACK_END: u64 = STACK + 0x2000;
/// The program's registers, while the library is busy with a call: a [`Frame`].
pub const FRAME: u64 = STACK_END - size_of::<Frame>() as u64;
/// The system call buffer: in replay always, in recording until the ring takes its place ([`Control::records`]).
pub const RECORDS: u64 = STACK_END;
/// Its size.
pub const RECORDS_BYTES: u64 = 0x4_0000;
/// What follows.
pub const END: u64 = RECORDS + RECORDS_BYTES;
/// Scratch memory at most, from [`END`] on: no memory of the program's either.
pub const SCRATCH_BYTES: u64 = (128 << 20) - RING_BYTES;
/// The ring: slots that each are a system call buffer, in memory that the recorder has mapped, too.
pub const RING: u64 = END + SCRATCH_BYTES;
/// How many slots it has.
pub const RING_SLOTS: u64 = 32;
/// Its size.
pub const RING_BYTES: u64 = RING_SLOTS * RECORDS_BYTES;
/// Where rr's area ends.
pub const AREA_END: u64 = RING + RING_BYTES;

/// Length of a record without its outputs.
pub const RECORD_BYTES: u64 = 16;

/// What the library shall do.
pub mod mode {
    /// Nothing: every call is traced.
    pub const OFF: u32 = 0;
    /// Make the calls and write records.
    pub const RECORD: u32 = 1;
    /// Read records.
    pub const REPLAY: u32 = 2;
}

/// Bits of [`Control::traced`]: kinds of calls that must be traced now.
pub mod traced {
    /// All.
    pub const ALL: u32 = 1;
    /// Whatever writes into files: a recorded process has another's memory open as a file, or the size of files is limited
    /// (what goes beyond causes a signal).
    pub const WRITES: u32 = 2;
    /// What cuts files short: some file is mapped shared.
    pub const TRUNCATION: u32 = 4;
    /// Opening what lists the machine's CPUs: the program is told of others.
    pub const CPU_LISTS: u32 = 8;
    /// `getcpu`, for the same reason.
    pub const GETCPU: u32 = 16;
    /// What changes the address space: another process has it, too (`vfork`), and stays if this one is killed.
    pub const SHAPING: u32 = 32;
    /// Waking who waits at a word (futex(2)): a task waits there in vain.
    pub const WAKES: u32 = 64;
    /// Reading files of `/proc`: in some of them the program is to see something else.
    pub const PROC_READS: u32 = 128;
}

/// What stubs come from.
pub mod site {
    /// A `syscall` instruction.
    pub const CALL: u64 = 0;
    /// A `rdtsc` instruction.
    pub const COUNTER: u64 = 1;
    /// A `rdtscp` instruction.
    pub const COUNTER_AND_PROCESSOR: u64 = 2;
}

/// The program's registers, as the library's entry pushes them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Frame {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rflags: u64,
}

/// The number of `rdtsc` in records: that of no system call.
pub const COUNTER_NUMBER: u64 = 0xffe;

/// The number of `rdtscp` in records. Its output is [`Control::processor`].
pub const COUNTER_AND_PROCESSOR_NUMBER: u64 = 0xffd;

/// The time-stamp counter as the program sees it: made of `CLOCK_MONOTONIC_RAW`, since the real one is hidden from the program
/// and costs the recorder two writes to CR4, which are slow in virtual machines.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counter {
    /// The time, in nanoseconds, at which…
    pub time: u64,
    /// …the counter was this.
    pub value: u64,
    /// Ticks in 2³² nanoseconds.
    pub rate: u64,
}

impl Counter {
    /// The counter at a time in nanoseconds.
    pub fn at(&self, time: u64) -> u64 {
        let passed = (u128::from(time.wrapping_sub(self.time)) * u128::from(self.rate)) >> 32;
        self.value.wrapping_add(passed as u64)
    }
}

/// The signals that the kernel forces on a task because of what rr does, as a set (bit n−1 for signal n): `SIGTRAP` (single
/// steps), `SIGSEGV` (`rdtsc`), `SIGSYS` (`int 0x80`). What the program does with them, the recorder must know.
pub const FORCED: u64 = 1 << 4 | 1 << 10 | 1 << 30;

/// Words of the filter of mapped files.
pub const FILTER_WORDS: usize = 64;

/// What library and recorder (or replayer) tell each other.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Where the task goes on when the library is done: written by the stub, moved on by 2 if the call was handled.
    pub go_on: u64,
    /// The program's stack pointer.
    pub rsp: u64,
    /// After this many buffered calls more, a checkpoint is due: the call after them is left to the recorder (recording).
    pub due: u64,
    /// So many calls were left to the recorder because they may have to wait for the other end of a pipe or socket (recording).
    pub left: u64,
    /// Which of the signals of [`FORCED`] the library has left blocked when it changed that last. The upper half counts these
    /// changes, so that the recorder knows whose they are (recording).
    pub blocked: u64,
    /// Where records are written (recording): [`RECORDS`] or a slot of the ring.
    pub records: u64,
    /// Bytes of records: written (recording), read (replay).
    pub used: u64,
    /// Bytes of records that there are room for (recording), or that there are (replay).
    pub end: u64,
    /// [`ENTRY`]: stubs jump through this word.
    pub entry: u64,
    /// See [`mode`].
    pub mode: u32,
    /// See [`traced`].
    pub traced: u32,
    /// In replay: the record that does not fit the call under way, as an offset, when the library executes `ud2`.
    pub mismatch: u64,
    /// In replay, at that `ud2`: only the digest of the payload does not fit. The library can go on behind it.
    pub other_payload: u64,
    /// Device and inode of rr's own standard output and error: writes to these are traced.
    pub stdio: [[u64; 2]; 2],
    /// What is at the place that the stub comes from (see [`site`]): the stub says so where it is no call.
    pub site: u64,
    /// What `rdtsc` gives.
    pub counter: Counter,
    /// Where rewritten code and stubs are, as beginnings and ends of ranges: calls that change the address space there are traced.
    pub guarded: [[u64; 2]; GUARDED],
    /// A Bloom filter of the files that are mapped somewhere: see [`filter_bits`].
    pub filter: [u64; FILTER_WORDS],
    /// Not 0 while the library is at work: set before it reads `traced`, cleared after its last call. So whoever sets
    /// [`traced::ALL`], and then finds 0 here, knows that no call is being made natively, and that none will be.
    pub busy: u64,
    /// The numbers of calls that the library may make, a bit each: the program's own filters allow these whatever their arguments
    /// (recording).
    pub allowed: [u64; ALLOWED_WORDS],
    /// The processor as the last `rdtscp` gave it: its number in the low 12 bits, its node above.
    pub processor: u64,
}

/// Words of the set of allowed calls: their numbers are below 512.
pub const ALLOWED_WORDS: usize = 8;

/// So many ranges are told of.
pub const GUARDED: usize = 16;

/// Where in [`Control::filter`] a file is: word and bit, twice.
pub fn filter_bits(device: u64, inode: u64) -> [(usize, u64); 2] {
    let mixed = (inode ^ device.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let place = |n: u64| (((n >> 6) as usize) % FILTER_WORDS, 1 << (n & 63));
    [place(mixed >> 40), place(mixed >> 20)]
}

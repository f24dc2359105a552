//! The library's memory: addresses and contents. The library and the rest of rr share this module.
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
//! # The path of a buffered call
//!
//! ```text
//! site−5  mov eax, 1      ──── replaced by ───►  jmp stub ──► mov eax, 1 (moved)
//! site    syscall   ◄─────────────────────────────┐           Control.go_on = site
//! site+2  …         ◄─────────────────────────────┤           jmp ENTRY ──► the library
//!                                                 └── jmp [go_on] ◄─────── site: not handled; site+2: handled
//! ```
//!
//! The `syscall` instruction itself stays in place. It makes each call that the library does not
//! handle, in the program's own state, and the call is traced as if there were no library. So no stop
//! happens inside the library on purpose, and the library has no state that lives from one call to the
//! next except the records.
//!
//! A `rdtsc` or `rdtscp` is handled in the same way. Their stubs first write a word that says so
//! (`Control.site`), and `rdtscp` has three bytes. If their place is overwritten, too, `go_on` is a copy
//! of the instruction in the stub (`tracee/src/site.rs`). So is `cpuid`, whose answer is looked up in
//! [`Control::cpuid`], a constant of the trace.
//!
//! # Records
//!
//! The records follow one another from [`Control::records`] on, [`Control::used`] bytes in all:
//!
//! ```text
//! u64  bits 0–11 number of the call, 12–31 length of the outputs, 32–63 hash of the registers at the call
//! i64  result
//!      outputs, one after the other, filled up with zeros to a multiple of 8
//! ```
//!
//! The record of a call that changes the address space has no outputs. It has three words that describe
//! the change (`library/shaping.rs`). If a call hands bytes of the program to the outside world, four
//! bytes behind its outputs hold their digest ([`crate::payload`]; records of older traces have none).
//!
//! One function of the library computes where the outputs belong, from number, arguments and result. It
//! is used while recording and in replay. Between two traced events of a task the recorder takes the
//! records out. Replay puts them in before the task runs, and they are used up when the task arrives at
//! the event.

/// Address of the library's code.
pub const CODE: u64 = 0x7000_0000;
/// Room for the code.
pub const CODE_BYTES: u64 = 0x1_0000;
/// The only `syscall` instruction that is not traced.
pub const SYSCALL: u64 = CODE;
/// The recorder sends a task here if the library cannot finish its call (a fault, a call that blocks).
pub const BAIL: u64 = CODE + 16;
/// Makes calls for the recorder: `rbx` is their number, and a list on the stack holds their registers.
pub const REMOTE: u64 = CODE + 32;
/// Return address of a call that is made there.
pub const REMOTE_NEXT: u64 = CODE + 47;
/// Address behind the final call there, which ends with a stop. `rbp` then holds the result of the call
/// before.
pub const REMOTE_STOP: u64 = CODE + 69;
/// A stack for a single call: a word that is [`REMOTE_NEXT`].
pub const REMOTE_RETURN: u64 = CODE + 72;
/// The call that stops the task. It is never made.
pub const REMOTE_LAST: u64 = 39;
/// Entry of the library: stubs jump here, with [`Control::go_on`] set.
pub const ENTRY: u64 = CODE + 80;
/// A page for parameters of remote system calls.
pub const PARAM: u64 = CODE + CODE_BYTES;
/// The page with [`Control`].
pub const CONTROL: u64 = PARAM + 0x1000;
/// The library's stack.
pub const STACK: u64 = CONTROL + 0x1000;
/// End of the stack.
pub const STACK_END: u64 = STACK + 0x2000;
/// Address of the program's registers while the library handles a call: a [`Frame`].
pub const FRAME: u64 = STACK_END - size_of::<Frame>() as u64;
/// The system call buffer: always in replay; while recording, until the ring replaces it
/// ([`Control::records`]).
pub const RECORDS: u64 = STACK_END;
/// Size of the buffer in bytes.
pub const RECORDS_BYTES: u64 = 0x4_0000;
/// End of the buffer.
pub const END: u64 = RECORDS + RECORDS_BYTES;
/// Maximum size of scratch memory, from [`END`] on. The program never uses the rest of it either.
pub const SCRATCH_BYTES: u64 = (128 << 20) - RING_BYTES;
/// The ring: each slot is a system call buffer, in memory that the recorder has mapped, too.
pub const RING: u64 = END + SCRATCH_BYTES;
/// Number of slots.
pub const RING_SLOTS: u64 = 32;
/// Size of the ring in bytes.
pub const RING_BYTES: u64 = RING_SLOTS * RECORDS_BYTES;
/// End of rr's area.
pub const AREA_END: u64 = RING + RING_BYTES;

/// Length of a record without its outputs.
pub const RECORD_BYTES: u64 = 16;

/// Modes of the library.
pub mod mode {
    /// Do nothing: every call is traced.
    pub const OFF: u32 = 0;
    /// Make the calls and write records.
    pub const RECORD: u32 = 1;
    /// Read records and return their results.
    pub const REPLAY: u32 = 2;
}

/// Bits of [`Control::traced`]: the kinds of calls that must be traced now.
pub mod traced {
    /// All calls.
    pub const ALL: u32 = 1;
    /// Calls that write into files: a recorded process has another's memory open as a file, or the size
    /// of files is limited (a write beyond the limit causes a signal).
    pub const WRITES: u32 = 2;
    /// Calls that truncate files: some file is mapped shared.
    pub const TRUNCATION: u32 = 4;
    /// Opening files that list the machine's CPUs: the program is shown other CPUs.
    pub const CPU_LISTS: u32 = 8;
    /// `getcpu`, for the same reason.
    pub const GETCPU: u32 = 16;
    /// Calls that change the address space: another process shares it (`vfork`) and survives if this
    /// one is killed.
    pub const SHAPING: u32 = 32;
    /// Calls that wake waiters of a futex (futex(2)): a task waits there in vain.
    pub const WAKES: u32 = 64;
    /// Reading files of `/proc`: the program must see something else in some of them.
    pub const PROC_READS: u32 = 128;
    /// Calls that close files: the last descriptor of an object of userfaultfd(2) ends its work.
    pub const CLOSES: u32 = 256;
}

/// Kinds of instructions that stubs replace.
pub mod site {
    /// A `syscall` instruction.
    pub const CALL: u64 = 0;
    /// A `rdtsc` instruction.
    pub const COUNTER: u64 = 1;
    /// A `rdtscp` instruction.
    pub const COUNTER_AND_PROCESSOR: u64 = 2;
    /// A `cpuid` instruction.
    pub const CPUID: u64 = 3;
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

/// Number of `rdtsc` in records. No system call has this number.
pub const COUNTER_NUMBER: u64 = 0xffe;

/// Number of `rdtscp` in records. Its output is [`Control::processor`].
pub const COUNTER_AND_PROCESSOR_NUMBER: u64 = 0xffd;

/// Number of `cpuid` in records. They say that the library has answered; the answer is in
/// [`Control::cpuid`].
pub const CPUID_NUMBER: u64 = 0xffc;

/// The time-stamp counter as the program sees it. It is computed from `CLOCK_MONOTONIC_RAW`, because
/// the real counter is hidden from the program, and to show it would cost the recorder two writes to
/// CR4, which are slow in virtual machines.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counter {
    /// A time in nanoseconds.
    pub time: u64,
    /// The counter at that time.
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

/// The signals that the kernel forces on a task because of rr, as a set (bit n−1 for signal n):
/// `SIGTRAP` (single steps), `SIGSEGV` (`rdtsc`, `cpuid`), `SIGSYS` (`int 0x80`). The recorder must know what
/// the program does with them.
pub const FORCED: u64 = 1 << 4 | 1 << 10 | 1 << 30;

/// The signals whose actions the recorder must know: those of [`FORCED`], and `SIGCHLD`, because the recorder sends
/// that to tracers in the kernel's place.
pub const ACTIONS_KNOWN: u64 = FORCED | 1 << 16;

/// Number of words of the filter of mapped files.
pub const FILTER_WORDS: usize = 64;

/// Data that the library and the recorder (or replayer) exchange.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Address where the task continues after the library. The stub writes it, and the library adds 2
    /// if it handled the call.
    pub go_on: u64,
    /// The program's stack pointer.
    pub rsp: u64,
    /// Number of buffered calls until a checkpoint is due: the call after them is left to the recorder
    /// (recording).
    pub due: u64,
    /// Number of calls left to the recorder because they may have to wait for the other end of a pipe
    /// or socket (recording).
    pub left: u64,
    /// The signals of [`FORCED`] that the program blocks, as of the last change by the library. The
    /// upper half counts these changes, so that the recorder can match them to a task (recording).
    pub blocked: u64,
    /// Address where records are written (recording): [`RECORDS`] or a slot of the ring.
    pub records: u64,
    /// Number of bytes of records written (recording) or read (replay).
    pub used: u64,
    /// Size of the buffer for records (recording), or of all records in it (replay), in bytes.
    pub end: u64,
    /// [`ENTRY`]: stubs jump through this word.
    pub entry: u64,
    /// See [`mode`].
    pub mode: u32,
    /// See [`traced`].
    pub traced: u32,
    /// In replay, when the library executes `ud2`: offset of the record that does not fit the current
    /// call.
    pub mismatch: u64,
    /// In replay, at that `ud2`: not 0 if only the digest of the payload does not fit. The library can
    /// then go on behind it.
    pub other_payload: u64,
    /// Device and inode of rr's own standard output and error: writes to these are traced.
    pub stdio: [[u64; 2]; 2],
    /// Kind of the instruction that the stub replaces (see [`site`]). The stub sets it unless the
    /// instruction is a call.
    pub site: u64,
    /// The counter that `rdtsc` reads.
    pub counter: Counter,
    /// Ranges of rewritten code and stubs, and of some shared mappings, as start and end: calls that change the address space
    /// there are traced.
    pub guarded: [[u64; 2]; GUARDED],
    /// A Bloom filter of the files that are mapped somewhere: see [`filter_bits`].
    pub filter: [u64; FILTER_WORDS],
    /// Not 0 while the library is at work: set before the library reads `traced`, cleared after its
    /// last call. So if somebody sets [`traced::ALL`] and then finds 0 here, no call is being made
    /// natively, and none will be.
    pub busy: u64,
    /// The calls that the library may make, one bit for each number: the program's own filters allow
    /// these whatever their arguments are (recording).
    pub allowed: [u64; ALLOWED_WORDS],
    /// The processor that the last `rdtscp` returned: its number in the low 12 bits, its node above.
    pub processor: u64,
    /// The answers of `cpuid`, the same in recording and replay.
    pub cpuid: [CpuidEntry; CPUID_ENTRIES],
}

/// Maximum number of answers of `cpuid` in [`Control::cpuid`].
pub const CPUID_ENTRIES: usize = 80;

/// [`CpuidEntry::sub`] of a leaf that has no subleaves.
pub const ANY_SUBLEAF: u32 = u32::MAX;

/// An answer of `cpuid`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuidEntry {
    /// The leaf: `eax` before the instruction.
    pub leaf: u32,
    /// The subleaf: `ecx` before the instruction, or [`ANY_SUBLEAF`].
    pub sub: u32,
    /// `eax`, `ebx`, `ecx` and `edx` after it.
    pub answer: [u32; 4],
}

impl CpuidEntry {
    /// No entry: nobody asks for this leaf.
    pub const NONE: CpuidEntry = CpuidEntry {
        leaf: u32::MAX,
        sub: 0,
        answer: [0; 4],
    };

    /// Returns whether this is the answer for a leaf and a subleaf.
    pub fn is_for(&self, leaf: u32, sub: u32) -> bool {
        self.leaf == leaf && (self.sub == sub || self.sub == ANY_SUBLEAF)
    }
}

/// Number of words of the set of allowed calls: call numbers are below 512.
pub const ALLOWED_WORDS: usize = 8;

/// Maximum number of ranges in [`Control::guarded`].
pub const GUARDED: usize = 16;

/// Position of a file in [`Control::filter`]: word and bit, twice.
pub fn filter_bits(device: u64, inode: u64) -> [(usize, u64); 2] {
    let mixed = (inode ^ device.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let place = |n: u64| (((n >> 6) as usize) % FILTER_WORDS, 1 << (n & 63));
    [place(mixed >> 40), place(mixed >> 20)]
}

//! Operations on one stopped Linux task.
//!
//! This crate is the only place that calls `ptrace(2)`. Its central rule is a
//! type: registers, remote system calls and resuming exist only on
//! [`Stopped`]; resuming consumes it and yields [`Running`]; the death of a
//! tracee is a value ([`Error::Died`], [`task::Waited::Gone`]) and never a stray
//! `ESRCH`.
//!
//! | module | concept |
//! |---|---|
//! | [`ids`] | newtypes: tids, addresses, ranges, spaces, files |
//! | [`regs`] | general registers |
//! | [`extended_state`] | extended state, also that of other processors |
//! | [`task`] | `Stopped`/`Running`, ptrace stops |
//! | `kill` | killing a process |
//! | `task::signals` | the signals of a stopped task |
//! | `task::debug` | its debug registers |
//! | [`cpus`] | which CPUs there are, and which is used for what |
//! | [`ticker`] | a clock for a thread that waits for tasks |
//! | [`stubs`] | the rewritten sites of an address space, found by their stubs |
//! | [`memory`] | reading and writing another address space |
//! | [`read_at`] | bytes that can be read at any place |
//! | [`sparse`] | the data of files with holes |
//! | [`remote`] | system calls performed in a stopped task for us |
//! | [`space`] | the model of an address space and the operations on it |
//! | [`limits`] | resource limits of a process |
//! | [`madv`] | `madvise`, and what it changes in an address space |
//! | [`objects`] | shared memory objects, and which of them still are a file of the trace |
//! | [`pagemap`] | which pages of a process hold data of its own |
//! | `death` | for tests: a tracee is killed at a chosen moment |
//! | [`digest`] | digests of the memory that a task could have written |
//! | [`payload`] | the digest of what a call hands to the outside world |
//! | [`code`] | machine code: what it touches, and how a piece of it is moved elsewhere |
//! | [`trapping`] | instructions that ask the processor for something: where files have them, and how they are made to trap |
//! | [`register_read`] | `RDRAND`, `RDSEED` and `RDPID` among them |
//! | [`components`] | `XGETBV` among them |
//! | [`cpuid`] | `CPUID`: its answers, and whether it can be made to trap |
//! | [`procfs`] | the few files of `/proc` that we read |
//! | [`rr_area`] | the pages that rr itself owns in every tracee |
//! | [`shaping`] | what buffered calls have changed in an address space |
//! | [`syscalls`] | the declarative system call table |
//! | [`tsc`] | the driving thread does without `rdtsc`, as tracees do |

pub mod code;
pub mod components;
pub mod cpuid;
pub mod cpus;
mod death;
pub mod digest;
pub mod error;
pub mod extended_state;
pub mod ids;
mod kill;
pub mod limits;
pub mod madv;
pub mod memory;
pub mod objects;
pub mod pagemap;
pub mod payload;
pub mod pid_namespace;
pub mod procfs;
pub mod read_at;
pub mod register_read;
pub mod regs;
pub mod remote;
pub mod rr_area;
pub mod shaping;
pub mod site;
pub mod space;
pub mod sparse;
pub mod stubs;
pub mod syscalls;
pub mod task;
pub mod ticker;
pub mod trapping;
pub mod tsc;
pub mod usage;
pub mod vsyscall;

pub use error::{Error, Result};
pub use extended_state::ExtendedState;
pub use ids::{Addr, AddrRange, FileId, ObjectId, SpaceId, Tid, TraceeFd, USER_END};
pub use memory::Memory;
pub use objects::{ObjectState, Objects};
pub use read_at::ReadAt;
pub use regs::Registers;
pub use space::{AddressSpace, Backing, ForkPolicy, Mapping, Prot, SpaceOp};
pub use task::{Running, Stop, Stopped};

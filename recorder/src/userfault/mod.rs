//! userfaultfd(2): page faults of the program that the program handles itself.
//!
//! The kernel's own userfaultfd is not used. A task that waits inside an instruction has no place that a trace can name, and the wait could
//! not be replayed in the middle of a `rep movsb`. Instead a registered page that is missing gets no access rights, and one that is
//! protected from writing keeps all but that. An access is a `SIGSEGV` at its instruction, in the recording as in replay. The
//! recorder does the rest of the kernel's work, and replay needs nothing but the operations that events carry anyway.
//!
//! ```text
//! a task touches a missing page ──► SIGSEGV: event (Trap) ──► message into the pipe ──► the task waits in pause(2)
//! another task: read, poll … ◄──────────────────────────────────┘                              │
//!               UFFDIO_COPY: event with the page's rights and bytes ──► woken: the instruction again
//! ```
//!
//! One difference to the kernel's: a system call that needs a missing page does not wait, but fails with `EFAULT`, as for a program that
//! has asked for `UFFD_USER_MODE_ONLY`.
//!
//! | file | concept |
//! |---|---|
//! | `api` | the kernel's numbers and structures |
//! | `create` | userfaultfd(2) and its device |
//! | `ioctl` | requests and their answers |
//! | `fill` | registering pages, filling them, protecting them |
//! | `fault` | a task touches a registered page |
//! | `wait` | tasks that wait for a page |
//! | `rights` | access rights, in the model and in the kernel |
//! | `release` | the last descriptor is closed |
//! | `key`, `object` | an object and its messages |
//! | `regions`, `pages` | the registered pages of an address space |
//! | `state` | what an address space and a task have of it |

pub(crate) mod api;
pub(crate) mod create;
pub(crate) mod fault;
pub(crate) mod fill;
pub(crate) mod ioctl;
pub(crate) mod key;
pub(crate) mod object;
pub(crate) mod pages;
pub(crate) mod regions;
pub(crate) mod release;
pub(crate) mod rights;
pub(crate) mod state;
pub(crate) mod wait;

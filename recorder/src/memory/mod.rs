//! Address spaces: calls that shape them, mapped files, shared memory objects.
//!
//! | file | concept |
//! |---|---|
//! | `mapping` | mmap(2), mprotect(2), mremap(2), brk(2) |
//! | `shm` | System V segments |
//! | `implied_rights` | personality(2), where reading implies executing |
//! | `advice` | madvise(2) |
//! | `process_advice` | process_madvise(2) |
//! | `secret` | memfd_secret(2) |
//! | `readable` | memory as the program could read it |
//! | `mapped` | the files that are mapped, and the objects |
//! | `objects` | writes to files that are mapped shared |
//! | `private_files` | writes to files that are mapped privately |
//! | `populated` | private copies of pages that nobody has written to |
//! | `unfinished` | calls in the middle of which their task was killed |

pub(crate) mod advice;
pub(crate) mod implied_rights;
pub(crate) mod mapped;
pub(crate) mod mapping;
pub(crate) mod objects;
pub(crate) mod populated;
pub(crate) mod private_files;
pub(crate) mod process_advice;
pub(crate) mod readable;
pub(crate) mod secret;
pub(crate) mod shm;
pub(crate) mod unfinished;

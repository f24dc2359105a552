//! The system call buffer: the library in the tracees, and the code that is rewritten to reach it.
//!
//! | file | concept |
//! |---|---|
//! | `library` | the state of the library in an address space |
//! | `control` | what the library is told, and the records that it has written |
//! | `ring` | its buffer for programs that record much |
//! | `sites` | the call sites of an address space |
//! | `rewrite` | sending call sites to the library |
//! | `restore` | restoring rewritten code |
//! | `known_sites` | the sites of files, from one program to the next |
//! | `guarded` | the pages that hold rewritten code, and others where calls are left to the recorder |
//! | `edits` | changes of code as one write |
//! | `searched` | the places of `RDRAND`, `RDSEED`, `CPUID` and `XGETBV` in files |
//! | `trapping` | making them trap |
//! | `native` | code where they do not |

/// The address of a field of the control page.
macro_rules! field {
    ($name:ident) => {
        rr_tracee::Addr(
            rr_preload::layout::CONTROL + std::mem::offset_of!(rr_preload::layout::Control, $name) as u64,
        )
    };
}

pub(crate) mod control;
pub(crate) mod edits;
pub(crate) mod guarded;
pub(crate) mod known_sites;
pub(crate) mod library;
pub(crate) mod native;
pub(crate) mod restore;
pub(crate) mod rewrite;
pub(crate) mod ring;
pub(crate) mod searched;
pub(crate) mod sites;
pub(crate) mod trapping;

//! Execution points: the end of an interval without an event of the program.
//!
//! | file | concept |
//! |---|---|
//! | `interrupt` | when a task is interrupted, and what follows |
//! | `patience` | how long others wait for a task |
//! | `clock` | the processor time of an interval |
//! | `spin` | tasks that wait in a loop |
//! | `place` | the place where the point is |
//! | `changed_pages` | the pages that a task writes in a moment |
//! | `discriminators` | the words that distinguish the passes of a loop |
//! | `preempt` | preemption in chaos mode |

pub(crate) mod changed_pages;
pub(crate) mod clock;
pub(crate) mod discriminators;
pub(crate) mod interrupt;
pub(crate) mod patience;
pub(crate) mod place;
pub(crate) mod preempt;
pub(crate) mod spin;

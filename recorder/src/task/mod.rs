//! Creation and end of tasks.
//!
//! | file | concept |
//! |---|---|
//! | `clone` | clone(2) and similar calls |
//! | `auto_attach` | tasks between their creation and their parent's event |
//! | `exec` | execve(2) |
//! | `privileges` | privileges that a program does not get while it is traced |
//! | `exit_stop` | a task is about to exit |
//! | `exit` | a task has ended |
//! | `leaving` | what a dying task leaves in memory that others have |

pub(crate) mod auto_attach;
pub(crate) mod clone;
pub(crate) mod exec;
pub(crate) mod exit;
pub(crate) mod exit_stop;
pub(crate) mod leaving;
pub(crate) mod privileges;

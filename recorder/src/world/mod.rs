//! The model: what the recorder knows of the program.
//!
//! | file | concept |
//! |---|---|
//! | `model` | the whole: tasks, address spaces, files, objects |
//! | `task` | a task, and the states in which it can be |
//! | `next` | the way in which a task goes on after its stop |
//! | `call` | the current system call of a task |
//! | `wait` | a call that waits for children or tracees |
//! | `unfinished` | what must be known of a task that may die in a call |
//! | `table` | the table of all tasks |
//! | `space` | an address space |
//! | `besides` | changes by the next event in other address spaces |
//! | `must_trace` | what makes calls of a kind traced ones |
//! | `numbers` | the tasks that a program names by their numbers |
//! | `paths` | paths as a task sees them |

pub(crate) mod besides;
pub(crate) mod call;
#[cfg(test)]
pub(crate) mod children;
pub(crate) mod model;
pub(crate) mod must_trace;
pub(crate) mod next;
pub(crate) mod numbers;
pub(crate) mod paths;
pub(crate) mod space;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod unfinished;
pub(crate) mod wait;

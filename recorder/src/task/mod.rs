//! Tasks: creation, exec and exit.

pub(crate) mod auto_attach;
pub(crate) mod exec;
pub(crate) mod exit;
pub(crate) mod privileges;

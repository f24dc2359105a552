//! Signals: which become events, and where.

pub(crate) mod deliver;
pub(crate) mod forced;
pub(crate) mod groups;
pub(crate) mod wakeup_signal;

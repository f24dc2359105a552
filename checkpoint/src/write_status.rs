//! The state of a checkpoint that others refer to.
//!
//! Keeps: a checkpoint that has failed stays so, and those that refer to it fail in their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// The state of a checkpoint that others may refer to.
#[derive(Debug)]
pub(crate) struct WriteStatus {
    /// Its event.
    pub event: u64,
    failed: AtomicBool,
}

impl WriteStatus {
    pub fn new(event: u64) -> Arc<WriteStatus> {
        let failed = AtomicBool::new(false);
        Arc::new(WriteStatus { event, failed })
    }

    /// There is not going to be such a file, and its temporary one is gone.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// An error if a checkpoint that the one at `event` refers to has failed.
pub(crate) fn unfailed(event: u64, needs: &[Arc<WriteStatus>]) -> Result<()> {
    match needs.iter().find(|n| n.has_failed()) {
        Some(n) => Err(Error::Dropped {
            event,
            why: format!(
                "it refers to the checkpoint at event {}, which could not be written",
                n.event
            ),
        }),
        None => Ok(()),
    }
}

//! `Code`: where the code in the tasks is not the program's own.
//!
//! Keeps I8: whoever reads memory asks this owner for the program's bytes.

use std::collections::BTreeMap;

use rr_tracee::code::{WINDOW_MAX, Window};
use rr_tracee::digest::ALL;
use rr_tracee::{Addr, Memory, SpaceId};

use crate::overlay::CodeOverlay;
use crate::sites::Sites;
use crate::task::Task;

/// The code in all address spaces, as far as it differs from the program's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Code {
    /// Bytes in the tasks' code that do not belong to the program.
    pub overlays: BTreeMap<SpaceId, CodeOverlay>,
    /// The rewritten sites, as far as they are known.
    pub sites: BTreeMap<SpaceId, Sites>,
    /// The program's bytes at the address where the run out of the library ends.
    pub exits: Option<(Addr, Vec<u8>)>,
}

impl Code {
    /// The window at `at` in the code of the task's address space, without the overlay's bytes.
    pub fn window(&self, task: &Task, at: Addr) -> Option<Window> {
        let mut code = [0; WINDOW_MAX];
        let got = task.memory().read_some(at, &mut code).ok()?;
        if let Some(overlay) = self.overlays.get(&task.space) {
            overlay.mask(at, &mut code[..got]);
        }
        Window::new(&code[..got], at)
    }

    /// A new address space is a copy of `from`, including patches: restores the program's own bytes.
    pub fn clean_copy(&self, from: SpaceId, memory: &Memory) -> rr_tracee::Result<()> {
        match self.overlays.get(&from) {
            Some(overlay) => overlay.lift(memory, ALL),
            None => Ok(()),
        }
    }
}

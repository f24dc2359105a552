//! Checkpoints: what they cost while recording, and what they save when replaying.
//!
//! | module | measures |
//! |---|---|
//! | `sizes` | pause and size for processes of several sizes |
//! | `busy` | a process that holds much, dirties it and makes many system calls; the same process when it is idle; CRIU beside |
//! | `places` | to any place of a trace, against from the start |
//! | `programs` | real programs |

mod busy;
mod criu;
mod places;
mod process;
mod programs;
mod sizes;

use std::path::Path;

use anyhow::Result;

use crate::args::Args;
use crate::figures::Figures;

/// Prints the tables about checkpoints; `false` if a goal was missed.
pub fn report(args: &Args, rr: &Path, work: &Path) -> Result<bool> {
    sizes::report(args, rr, work)?;
    programs::report(args, rr, work)?;
    let mut figures = Figures::default();
    places::late_event(args, rr, work, &mut figures)?;
    places::any_place(args, rr, work, &mut figures)?;
    busy::report(args, rr, work, &mut figures)?;
    Ok(figures.print())
}

//! The CPU that a command claims, and the word about it if another rr runs there already: both are slower then, and nothing else
//! would say why.

use std::io::{IsTerminal, stderr};

use rr_replayer::runs_anywhere;
use rr_trace::TraceReader;
use rr_tracee::cpus::{Claim, Cpus};

/// The reason that all CPUs have an rr already.
pub const ALL_TAKEN: &str = "all CPUs are taken";
const BOUND: &str = "this program may see on which CPU it runs, so its replay stays on that of the recording";

/// Claims the CPU for a replay, and says if it is shared: to a person at a terminal, else to the log.
pub fn for_replay(cpus: &Cpus, reader: &TraceReader) -> Claim {
    let claim = rr_replayer::claim_for_replay(cpus, reader);
    if claim.is_shared() {
        let why = if runs_anywhere(reader) { ALL_TAKEN } else { BOUND };
        let text = shared(&claim, why);
        match stderr().is_terminal() {
            true => eprintln!("rr: {text}"),
            false => tracing::info!("{text}"),
        }
    }
    claim
}

/// The text about a CPU that is shared.
pub fn shared(claim: &Claim, why: &str) -> String {
    format!(
        "another rr runs on CPU {}, too, and each slows the other down: {why}",
        claim.cpu()
    )
}

//! Verification: checks if a replay gives the recorded state (I4), at every stored checkpoint.
//!
//! Each stretch ([`crate::stretch`]) begins with a session restored from its checkpoint, which is
//! compared with the checkpoint before anything runs. At its end the session is compared with the
//! checkpoint there. Invariant: a trace is called good only if every stretch was compared completely. A
//! stretch that differs was replayed on the CPU of the recording.
//!
//! The cost of a stretch with a large process is not replay but memory: pages are written once and read
//! twice. So blocks are decompressed once for the whole stretch and its neighbours
//! ([`rr_checkpoint::BlockCache`], `cache_bytes`).

use std::sync::Arc;
use std::time::Instant;

use rr_checkpoint::{BlockCache, Checkpoint};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_tracee::cpus::Cpus;
use rr_tracee::procfs::MachineMemory;

use crate::affinity::{Beside, cpu_for_replay, runs_anywhere};
use crate::compare::Mismatch;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::position::Position;
use crate::session::ReplaySession;
use crate::stretch::pool::{self, Walked};
use crate::stretch::{self, Stored, Stretch};

/// Limits of the cache for decompressed blocks. With less, a process of this size would be decompressed
/// anew each time.
const CACHE: std::ops::RangeInclusive<usize> = 64 << 20..=4 << 30;

/// Result of a stretch.
#[derive(Debug)]
pub enum Verdict {
    /// Image and all pages are equal. Without a checkpoint at its end: every event was replayed as
    /// recorded.
    Same,
    /// Image or pages differ.
    Differs {
        /// True if they differ at the beginning already: the restored state is not the stored one.
        restored: bool,
        /// The differences.
        mismatch: Box<Mismatch>,
    },
    /// The stretch could not be replayed to its end: a divergence, or a checkpoint that cannot be read.
    Failed(Error),
    /// The stretch was given up because the user has interrupted the verification.
    GivenUp,
}

/// A stretch and its result.
#[derive(Debug)]
pub struct Verified {
    /// The stretch.
    pub stretch: Stretch,
    /// The result.
    pub verdict: Verdict,
}

/// The verification of a trace.
#[derive(Debug)]
pub struct Verifier {
    stored: Stored,
    cpus: Cpus,
    /// The stretches, oldest first.
    stretches: Vec<Stretch>,
    /// Maximum number of pages that are reported for one stretch.
    pub tell: usize,
}

impl Verifier {
    /// A verification of the whole trace.
    pub fn new(reader: Arc<TraceReader>, cpus: Cpus) -> Result<Verifier> {
        let last = reader.last_event();
        let cache = BlockCache::new(cache_bytes());
        let stored = Stored::new(reader, cpus.set())?.sharing(cache);
        let end = Position::at_event(last);
        let mut stretches = stretch::between(stored.events(), stored.has_start(), EventNumber(0), &end);
        stretches.reverse();
        // A checkpoint at the very end begins no stretch, but is a start all the same.
        if stored.events().last() == Some(&last) {
            stretches.push(Stretch {
                from: last,
                to: end,
                ends_stored: true,
            });
        }
        Ok(Verifier {
            stored,
            cpus,
            stretches,
            tell: 10,
        })
    }

    /// Keeps only the stretch that begins with the checkpoint at this event (0: at the start). Returns
    /// `false` if there is none.
    pub fn only_from(&mut self, event: EventNumber) -> bool {
        self.stretches.retain(|stretch| stretch.from == event);
        !self.stretches.is_empty()
    }

    /// Keeps only the stretch that ends with the checkpoint at this event. Returns `false` if there is
    /// none.
    pub fn only_checkpoint(&mut self, event: EventNumber) -> bool {
        self.stretches
            .retain(|s| s.ends_stored && s.to.last == event && s.from != event);
        !self.stretches.is_empty()
    }

    /// The stretches to verify, oldest first.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Verifies on at most `jobs` CPUs. Calls `told` after each stretch, in order of their ends, from
    /// several threads. Returns all results, oldest first.
    pub fn run(
        &self,
        jobs: usize,
        told: &(dyn Fn(&Verified) + Sync),
        user: &mut dyn Interrupt,
    ) -> Vec<Verified> {
        let home = cpu_for_replay(&self.cpus, self.stored.reader());
        let mut others = self.cpus.all();
        others.retain(|cpu| *cpu != home);
        others.truncate(jobs.saturating_sub(1));
        let verified = |n: usize, verdict: Verdict| {
            let stretch = self.stretches[n].clone();
            let verified = Verified { stretch, verdict };
            told(&verified);
            Walked::Done(verified)
        };
        let counts_anywhere = runs_anywhere(self.stored.reader());
        let _beside = Beside::cpu(Some(home));
        let ended = pool::run(
            self.stretches.len(),
            &others,
            &|n, cpu, wanted| {
                let stretch = &self.stretches[n];
                // If the program has looked at the number of its CPU, nothing at the end of this
                // stretch would show it.
                if !counts_anywhere && !stretch.ends_stored {
                    return Walked::AtHome;
                }
                let verdict = self.verify(stretch, cpu, wanted);
                match verdict {
                    Ok(verdict @ (Verdict::Same | Verdict::GivenUp)) => verified(n, verdict),
                    // Perhaps the program has.
                    other if !counts_anywhere => {
                        tracing::debug!("{stretch} on CPU {cpu}: {other:?}; again on the recorded CPU");
                        Walked::AtHome
                    }
                    other => verified(n, other.unwrap_or_else(Verdict::Failed)),
                }
            },
            &mut |n, wanted| {
                let verdict = self.verify(&self.stretches[n], home, wanted);
                verified(n, verdict.unwrap_or_else(Verdict::Failed))
            },
            user,
        );
        ended.outcomes.into_values().collect()
    }

    /// Verifies one stretch on a CPU.
    fn verify(&self, stretch: &Stretch, cpu: usize, wanted: &mut dyn Interrupt) -> Result<Verdict> {
        let began = Instant::now();
        let mut session = self.stored.session_beside(stretch.from, cpu)?;
        let restored = began.elapsed();
        if !stretch.is_first() {
            let verdict = self.compare(&session, &self.stored.open(stretch.from)?, true)?;
            if !matches!(verdict, Verdict::Same) {
                return Ok(verdict);
            }
        }
        let compared = began.elapsed() - restored;
        while session.last_event() < stretch.to.last {
            if wanted.is_requested() {
                return Ok(Verdict::GivenUp);
            }
            if session.step()?.is_none() {
                return Err(Error::Ended {
                    event: session.last_event(),
                    wanted: stretch.to.last,
                });
            }
        }
        let replayed = began.elapsed() - restored - compared;
        let verdict = match stretch.ends_stored && stretch.from != stretch.to.last {
            true => self.compare(&session, &self.stored.open(stretch.to.last)?, false)?,
            false => Verdict::Same,
        };
        let last = began.elapsed() - restored - compared - replayed;
        tracing::debug!(
            "{stretch}: restored in {restored:?}, compared in {compared:?}, replayed in {replayed:?}, compared in {last:?}"
        );
        Ok(verdict)
    }

    fn compare(&self, session: &ReplaySession, checkpoint: &Checkpoint, restored: bool) -> Result<Verdict> {
        let mismatch = session.compare(checkpoint, self.tell)?;
        Ok(match mismatch.is_empty() {
            true => Verdict::Same,
            false => Verdict::Differs {
                restored,
                mismatch: Box::new(mismatch),
            },
        })
    }
}

/// Number of bytes of decompressed blocks to keep: a quarter of the free memory.
fn cache_bytes() -> usize {
    let available = MachineMemory::now().map_or(0, |memory| memory.available);
    ((available / 4) as usize).clamp(*CACHE.start(), *CACHE.end())
}

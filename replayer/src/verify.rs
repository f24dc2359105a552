//! Verifying: whether a replay gives back what was recorded (I4), at every stored checkpoint.
//!
//! Each stretch ([`crate::stretch`]) begins with a session restored from its checkpoint, which is compared with the checkpoint
//! before anything runs; at its end the session is compared with the checkpoint there. Keeps: a trace is called good only if
//! every stretch was compared whole, and one that differs was replayed on the CPU of the recording.
//!
//! What a stretch with a large process costs is not replay but memory: pages are written once and read twice. So blocks are
//! decompressed once for all of it and its neighbours ([`rr_checkpoint::BlockCache`], `cache_bytes`).

use std::sync::Arc;
use std::time::Instant;

use rr_checkpoint::{BlockCache, Checkpoint};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_tracee::cpus::Cpus;
use rr_tracee::procfs::MachineMemory;

use crate::affinity::{Beside, cpu_for_replay};
use crate::compare::Mismatch;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::position::Position;
use crate::session::ReplaySession;
use crate::stretch::pool::{self, Walked};
use crate::stretch::{self, Stored, Stretch};

/// Decompressed blocks that are kept at most, and at least. Below, a process of this size is decompressed anew each time.
const CACHE: std::ops::RangeInclusive<usize> = 64 << 20..=4 << 30;

/// What came of a stretch.
#[derive(Debug)]
pub enum Verdict {
    /// Image and all pages are the same; without a checkpoint at its end, every event came out as recorded.
    Same,
    /// They are not.
    Differs {
        /// At the beginning already: what was restored is not what was stored.
        restored: bool,
        /// In what.
        mismatch: Box<Mismatch>,
    },
    /// It could not be replayed to its end: a divergence, or a checkpoint that cannot be read.
    Failed(Error),
    /// It was given up because the user has interrupted it all.
    GivenUp,
}

/// A stretch and what came of it.
#[derive(Debug)]
pub struct Verified {
    /// From where to where.
    pub stretch: Stretch,
    /// The result.
    pub verdict: Verdict,
}

/// The verification of a trace.
#[derive(Debug)]
pub struct Verifier {
    stored: Stored,
    cpus: Cpus,
    /// Oldest first.
    stretches: Vec<Stretch>,
    /// The most pages that are told for one stretch.
    pub tell: usize,
}

impl Verifier {
    /// Verifies all of a trace.
    pub fn new(reader: Arc<TraceReader>, cpus: Cpus) -> Result<Verifier> {
        let last = reader.last_event();
        let cache = BlockCache::new(cache_bytes());
        let stored = Stored::new(reader, cpus.set())?.sharing(cache);
        let end = Position::at_event(last);
        let mut stretches = stretch::between(stored.events(), stored.has_start(), EventNumber(0), &end);
        stretches.reverse();
        // One at the very end begins no stretch, and is a start all the same.
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

    /// Only the stretch that begins with the checkpoint at this event (0: at the start). `false`: there is none.
    pub fn only_from(&mut self, event: EventNumber) -> bool {
        self.stretches.retain(|stretch| stretch.from == event);
        !self.stretches.is_empty()
    }

    /// Only the stretch that ends with the checkpoint at this event. `false`: there is none.
    pub fn only_checkpoint(&mut self, event: EventNumber) -> bool {
        self.stretches
            .retain(|s| s.ends_stored && s.to.last == event && s.from != event);
        !self.stretches.is_empty()
    }

    /// What is verified, oldest first.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Verifies on at most so many CPUs. Calls `told` after each stretch, as they end, from several threads. Returns all,
    /// oldest first.
    pub fn run(
        &self,
        jobs: usize,
        told: &(dyn Fn(&Verified) + Sync),
        user: &mut dyn Interrupt,
    ) -> Vec<Verified> {
        let header = self.stored.reader().header();
        let home = cpu_for_replay(&self.cpus, header);
        let mut others = self.cpus.all();
        others.retain(|cpu| *cpu != home);
        others.truncate(jobs.saturating_sub(1));
        let verified = |n: usize, verdict: Verdict| {
            let stretch = self.stretches[n].clone();
            let verified = Verified { stretch, verdict };
            told(&verified);
            Walked::Done(verified)
        };
        let counts_anywhere = header.cpuid_faulting;
        let _beside = Beside::cpu(Some(home));
        let ended = pool::run(
            self.stretches.len(),
            &others,
            &|n, cpu, wanted| {
                let stretch = &self.stretches[n];
                // Nothing at its end would show that the program has looked at the number of its CPU.
                if !counts_anywhere && !stretch.ends_stored {
                    return Walked::AtHome;
                }
                let verdict = self.verify(stretch, cpu, wanted);
                match verdict {
                    Ok(verdict @ (Verdict::Same | Verdict::GivenUp)) => verified(n, verdict),
                    // Perhaps it has.
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

/// How many bytes of decompressed blocks are kept: a quarter of the memory that is free.
fn cache_bytes() -> usize {
    let available = MachineMemory::now().map_or(0, |memory| memory.available);
    ((available / 4) as usize).clamp(*CACHE.start(), *CACHE.end())
}

//! Finding an execution point: a moment of an interval that is named by its state.
//!
//! Keeps I7: a moment counts as the point only when *all* of the state is equal: general and extended registers, and
//! the digest of the memory that the task could have written. A [`Stub`] in the task finds the moments
//! that are worth a look; where there is no room for one, a breakpoint does, slowly.

use rr_trace::event::{Event, Point};
use rr_tracee::code::{WINDOW_MAX, Window};
use rr_tracee::digest::{self, CHUNK};
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::remote::Remote;
use rr_tracee::task::{Resume, Waited};
use rr_tracee::{Addr, AddrRange, AddressSpace, ObjectId, Registers, Stop, Stopped, Tid};

use crate::error::{Divergence, Error, Result};
use crate::probe::{INT3, Stub};
use crate::session::ReplaySession;
use crate::task::{is_from_outside, refusal};

/// The resume flag (Intel SDM vol. 1, 3.4.3): how the processor came to a stop, and not a part of the state.
const RF: u64 = 1 << 16;

/// What is written over the program's code while the point is looked for.
struct Probe {
    at: Addr,
    patch: Vec<u8>,
    original: Vec<u8>,
    stub: Option<Stub>,
}

/// What a stop of the task means for the search.
enum Found {
    /// It may be at the point.
    Candidate,
    /// It is between the instructions that the probe replaced; it goes on at this place.
    Inner(Addr),
    /// Something else: the interval has ended.
    Other(Stop),
}

impl ReplaySession {
    /// Runs the task to the execution point of `event`.
    pub(crate) fn run_to_point(&mut self, event: &Event, at: &Registers, point: &Point) -> Result<()> {
        let failed = |source| Error::Tracee {
            event: event.number,
            source,
        };
        let mut stopped = self.task(event)?.take().map_err(failed)?;
        let no_space = || Error::BadTrace {
            event: event.number,
            what: format!("task {} has no address space", event.tid),
        };
        let space = self.task(event)?.space;
        let search = Search {
            session: self,
            space: self.spaces.get(&space).ok_or_else(no_space)?,
            event,
            at,
            point,
            suspect: std::cell::Cell::new(None),
            stops: Default::default(),
        };
        if !search.is_here(&stopped).map_err(failed)? {
            let (prepared, probe) = Probe::prepare(stopped, at, point, search.space).map_err(failed)?;
            probe.write(prepared.tid(), true).map_err(failed)?;
            stopped = search.run(prepared, &probe)?;
            let (candidates, inner) = search.stops.get();
            tracing::debug!(
                "execution point of event {} found after {candidates} looks and {inner} detours{}",
                event.number,
                if probe.stub.is_some() {
                    ""
                } else {
                    ", by breakpoint"
                }
            );
            probe.write(stopped.tid(), false).map_err(failed)?;
            stopped = probe.remove(stopped).map_err(failed)?;
        }
        stopped.set_regs(at).map_err(failed)?;
        self.task(event)?.give(stopped);
        Ok(())
    }
}

impl Probe {
    fn prepare(
        stopped: Stopped,
        at: &Registers,
        point: &Point,
        space: &AddressSpace,
    ) -> rr_tracee::Result<(Stopped, Probe)> {
        let mut code = [0; WINDOW_MAX];
        let memory = rr_tracee::Memory::of(stopped.tid());
        let got = memory.read_some(Addr(at.rip), &mut code)?;
        let window = Window::new(&code[..got], Addr(at.rip));
        let stub = window.and_then(|w| Stub::new(&w, at, &point.words, space));
        let breakpoint = |stopped| {
            let probe = Probe {
                at: Addr(at.rip),
                patch: vec![INT3],
                original: code[..1].to_vec(),
                stub: None,
            };
            Ok((stopped, probe))
        };
        let Some(stub) = stub else {
            return breakpoint(stopped);
        };
        let args = [
            stub.room.start.0,
            stub.room.len(),
            (libc::PROT_READ | libc::PROT_EXEC) as u64,
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as u64,
            u64::MAX,
            0,
        ];
        let (remote, mapped) = Remote::ours(stopped)?.call(libc::SYS_mmap, args)?;
        let stopped = remote.finish()?;
        if mapped != stub.room.start.0 as i64 {
            return breakpoint(stopped);
        }
        memory.write(stub.place, &stub.code)?;
        let probe = Probe {
            at: Addr(at.rip),
            patch: stub.patch.to_vec(),
            original: code[..stub.patch.len()].to_vec(),
            stub: Some(stub),
        };
        Ok((stopped, probe))
    }

    /// Puts the probe into the code, or the code back.
    fn write(&self, tid: Tid, set: bool) -> rr_tracee::Result<()> {
        rr_tracee::Memory::of(tid).write(self.at, if set { &self.patch } else { &self.original })
    }

    fn remove(&self, stopped: Stopped) -> rr_tracee::Result<Stopped> {
        let Some(stub) = &self.stub else {
            return Ok(stopped);
        };
        Remote::ours(stopped)?.unmap(stub.room)?.finish()
    }

    fn found(&self, stopped: &Stopped, stop: Stop) -> rr_tracee::Result<Found> {
        if stop != Stop::Signal(libc::SIGTRAP) {
            return Ok(Found::Other(stop));
        }
        let rip = Addr(stopped.regs()?.rip);
        let hit = self.stub.as_ref().map_or(self.at, |s| s.hit);
        if rip == hit + 1 {
            return Ok(Found::Candidate);
        }
        let inner = self.stub.iter().flat_map(|s| &s.inner);
        let moved = inner.into_iter().find(|(old, _)| rip == *old + 1);
        Ok(moved.map_or(Found::Other(stop), |(_, new)| Found::Inner(*new)))
    }
}

struct Search<'a> {
    session: &'a ReplaySession,
    space: &'a AddressSpace,
    event: &'a Event,
    at: &'a Registers,
    point: &'a Point,
    /// The chunk of memory that differed last: looked at first, because it is likely to differ again.
    suspect: std::cell::Cell<Option<Addr>>,
    /// Stops so far: at what might have been the point, and between replaced instructions.
    stops: std::cell::Cell<(u64, u64)>,
}

impl Search<'_> {
    /// Lets the task run until it is at the point; the probe is set, then and now.
    fn run(&self, mut stopped: Stopped, probe: &Probe) -> Result<Stopped> {
        let failed = |source| Error::Tracee {
            event: self.event.number,
            source,
        };
        let mut how = Resume::Sysemu;
        loop {
            let waited = stopped.resume(how, None).and_then(|r| r.wait()).map_err(failed)?;
            let stop;
            (stopped, stop) = match waited {
                Waited::Stopped(stopped, stop) => (stopped, stop),
                Waited::Gone(status) => {
                    return Err(self.diverged(format!("the task died (wait status {status:#x})")));
                }
            };
            if is_from_outside(&stopped, stop) {
                // Of a step, the trap may be still to come.
                continue;
            }
            if how == Resume::SysemuStep {
                // Past the breakpoint.
                probe.write(stopped.tid(), true).map_err(failed)?;
                how = Resume::Sysemu;
                if stop == Stop::Signal(libc::SIGTRAP) {
                    continue;
                }
            }
            let mut regs = stopped.regs().map_err(failed)?;
            if let Some(after) = refusal(self.session.reader.header(), stop, &regs) {
                stopped.set_regs(&after).map_err(failed)?;
                continue;
            }
            match probe.found(&stopped, stop).map_err(failed)? {
                Found::Candidate => {
                    self.stops.update(|(candidates, inner)| (candidates + 1, inner));
                    regs.rip = self.at.rip;
                    stopped.set_regs(&regs).map_err(failed)?;
                    probe.write(stopped.tid(), false).map_err(failed)?;
                    if self.is_here(&stopped).map_err(failed)? {
                        return Ok(stopped);
                    }
                    match &probe.stub {
                        Some(stub) => {
                            probe.write(stopped.tid(), true).map_err(failed)?;
                            regs.rip = stub.moved.0;
                            stopped.set_regs(&regs).map_err(failed)?;
                        }
                        None => how = Resume::SysemuStep,
                    }
                }
                Found::Inner(moved) => {
                    self.stops.update(|(candidates, inner)| (candidates, inner + 1));
                    regs.rip = moved.0;
                    stopped.set_regs(&regs).map_err(failed)?;
                }
                Found::Other(Stop::Syscall) => {
                    let name = rr_tracee::syscalls::name(regs.syscall());
                    return Err(self.diverged(format!("entry of {name} at {:#x}", regs.rip)));
                }
                Found::Other(stop) => return Err(self.diverged(format!("{stop:?} at {:#x}", regs.rip))),
            }
        }
    }

    /// Whether the task is at the point, with no probe in its code.
    fn is_here(&self, stopped: &Stopped) -> rr_tracee::Result<bool> {
        let plain = |regs: &Registers| Registers {
            eflags: regs.eflags & !RF,
            orig_rax: NOT_IN_SYSCALL,
            ..*regs
        };
        if plain(&stopped.regs()?) != plain(self.at) {
            return Ok(false);
        }
        let memory = rr_tracee::Memory::of(stopped.tid());
        for (addr, value) in &self.point.words {
            if memory.read_u64(*addr)? != *value {
                return Ok(false);
            }
        }
        if stopped.xstate()?.normalised() != self.point.xstate.normalised() {
            return Ok(false);
        }
        let object = |id: ObjectId| self.session.backings.objects.get(&id).map(|o| &o.file);
        let tid = stopped.tid();
        if let Some(suspect) = self.suspect.get() {
            let chunk = AddrRange::sized(suspect, CHUNK);
            let recorded: Vec<_> = self
                .point
                .sums
                .iter()
                .filter(|s| s.start == suspect)
                .copied()
                .collect();
            if digest::sums(tid, self.space, chunk, object)? != recorded {
                return Ok(false);
            }
        }
        let sums = digest::sums(tid, self.space, digest::ALL, object)?;
        self.suspect
            .set(digest::first_difference(&sums, &self.point.sums));
        Ok(self.suspect.get().is_none())
    }

    fn diverged(&self, seen: String) -> Error {
        let suspect = self.suspect.get().map_or(String::new(), |chunk| {
            format!(
                "; its registers were those of the point before, with other memory at {:#x}",
                chunk.0
            )
        });
        Error::Divergence(Box::new(Divergence {
            event: self.event.number,
            tid: self.event.tid,
            expected: format!("execution point at {:#x}", self.at.rip),
            seen: seen + &suspect,
            registers: vec![],
        }))
    }
}

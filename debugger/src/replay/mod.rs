//! `ReplayTarget`: a replay as something to debug.
//!
//! A [`Timeline`] moves; this gives it the shape that the server wants. Keeps I8: memory and registers that the user
//! changes, and functions that they call, live in a throw-away copy (`Diversion`), which begins with the first change
//! and ends as soon as the user goes on with the replay.
//!
//! | module | concept |
//! |---|---|
//! | `changes` | the throw-away copy |
//! | `diverted` | its beginning, going on in it, its end |
//! | `commands` | `when`, `checkpoint`, … |
//! | `places` | numbered checkpoints, and the stops that `back` goes through |
//! | `points` | breakpoints and watchpoints as the server sets them |
//! | `view` | what the process looks like: auxiliary vector, mappings, files |

mod asked;
mod changes;
mod commands;
mod diverted;
mod failed;
mod places;
mod points;
mod view;

use std::cell::RefCell;

use rr_replayer::timeline::{self, Timeline};
use rr_replayer::{Position, ReplaySession};
use rr_trace::Member;
use rr_trace::event::{EventKind, EventNumber};
use rr_trace::processes::Process;
use rr_tracee::{Addr, Tid};

use crate::target::{
    Action, Condition, Direction, Interrupt, PointKind, RegisterFile, Restart, Stop, StopOptions, Target,
    TargetError, Thread,
};

use asked::Asked;
use changes::Changes;
use failed::failed;
use places::Places;
use points::Points;

/// The replay of one process, for a debugger.
#[derive(Debug)]
pub struct ReplayTarget {
    /// Looking at memory goes through caches.
    timeline: RefCell<Timeline>,
    /// All processes of the recording.
    processes: Vec<Process>,
    points: Points,
    places: Places,
    /// The throw-away copy, if there is one.
    changes: RefCell<Option<Changes>>,
    current: Option<Tid>,
}

impl ReplayTarget {
    /// Lets a debugger look at a timeline, which stands where the session begins.
    pub fn new(timeline: Timeline, processes: Vec<Process>) -> ReplayTarget {
        let begin = timeline.position();
        let mut target = ReplayTarget {
            timeline: RefCell::new(timeline),
            processes,
            points: Points::default(),
            places: Places::new(begin),
            changes: RefCell::new(None),
            current: None,
        };
        target.current = target.thread_here();
        target
    }

    /// The thread that the place is about: that of the last event, or of the next one, if it is the process's.
    fn thread_here(&mut self) -> Option<Tid> {
        let timeline = self.timeline.get_mut();
        let process = timeline.process();
        let threads = timeline.session().threads_of(process);
        let position = timeline.position();
        let inside = !position.path.is_empty() || position.arrived;
        let near = match inside {
            true => [position.last.next(), position.last],
            false => [position.last, position.last.next()],
        };
        let own = near.into_iter().find_map(|number| {
            let tid = timeline.event_tid(number)?;
            threads.contains(&tid).then_some(tid)
        });
        own.or(threads.first().copied())
    }

    /// Looks at the session that the user sees: the copy if there is one.
    fn with_session<T>(&self, look: impl FnOnce(&mut ReplaySession) -> T) -> T {
        match &mut *self.changes.borrow_mut() {
            Some(changes) => look(changes.session()),
            None => look(self.timeline.borrow_mut().session_mut()),
        }
    }

    /// The server's name for a stop.
    fn stop_of(&mut self, stop: timeline::Stop) -> Stop {
        let tid = match &stop {
            timeline::Stop::Breakpoint { tid, .. }
            | timeline::Stop::Watchpoint { tid, .. }
            | timeline::Stop::Stepped { tid }
            | timeline::Stop::Signal { tid, .. }
            | timeline::Stop::Syscall { tid, .. }
            | timeline::Stop::Forked { tid, .. }
            | timeline::Stop::Executed { tid, .. }
            | timeline::Stop::Exiting { tid } => Some(*tid),
            timeline::Stop::Interrupted
            | timeline::Stop::Exited { .. }
            | timeline::Stop::HistoryBegin
            | timeline::Stop::HistoryEnd => None,
        };
        let tid = tid.or_else(|| self.thread_here());
        self.current = tid;
        let tid = tid.unwrap_or(self.process());
        match stop {
            timeline::Stop::Breakpoint { addr, .. } => Stop::Breakpoint {
                tid,
                addr,
                hardware: self.points.is_hardware(addr),
            },
            timeline::Stop::Watchpoint { range, kind, .. } => Stop::Watchpoint {
                tid,
                addr: range.start,
                kind: self.points.kind_of(range, kind),
            },
            timeline::Stop::Stepped { .. } => Stop::Stepped { tid },
            timeline::Stop::Signal { signo, .. } => Stop::Signal { tid, signo },
            timeline::Stop::Syscall { number, entry, .. } => Stop::Syscall { tid, number, entry },
            timeline::Stop::Forked { child, vfork, .. } => Stop::Forked { tid, child, vfork },
            timeline::Stop::Executed { path, .. } => Stop::Executed { tid, path },
            timeline::Stop::Interrupted => Stop::Interrupted { tid },
            timeline::Stop::Exiting { .. } => Stop::Exiting { tid },
            timeline::Stop::Exited { status } => Stop::Exited { status },
            timeline::Stop::HistoryBegin => Stop::HistoryBegin { tid },
            timeline::Stop::HistoryEnd => Stop::HistoryEnd { tid },
        }
    }

    /// Goes to a place. `None`: interrupted.
    fn go(&mut self, to: &Position, interrupt: &mut dyn Interrupt) -> Result<Option<Tid>, TargetError> {
        self.changes.replace(None);
        let reached = self
            .timeline
            .get_mut()
            .seek(to, &mut Asked::new(interrupt))
            .map_err(failed)?;
        self.current = self.thread_here();
        Ok(self.current.filter(|_| reached))
    }
}

impl Target for ReplayTarget {
    fn process(&self) -> Tid {
        self.timeline.borrow().process()
    }

    fn threads(&self) -> Vec<Thread> {
        let process = self.process();
        self.with_session(|session| {
            let tids = session.threads_of(process).into_iter();
            tids.map(|tid| Thread {
                tid,
                name: session.name_of(tid).unwrap_or_default(),
            })
            .collect()
        })
    }

    fn current(&self) -> Option<Tid> {
        self.current
    }

    fn registers(&self, tid: Tid) -> Result<RegisterFile, TargetError> {
        self.with_session(|session| {
            let mut general = session.registers(tid).ok_or(TargetError::NoThread(tid))?;
            let extended = session.extended_state(tid).ok_or(TargetError::NoThread(tid))?;
            if let Some(number) = session.system_call_of(tid) {
                general.orig_rax = number as u64;
            }
            Ok(RegisterFile { general, extended })
        })
    }

    fn set_registers(&mut self, tid: Tid, registers: &RegisterFile) -> Result<(), TargetError> {
        self.begin_changes(tid)?;
        match self.changes.get_mut() {
            Some(changes) => changes.set_registers(tid, registers),
            None => Ok(()),
        }
    }

    fn read_memory(&self, addr: Addr, buf: &mut [u8]) -> usize {
        let Some(tid) = self.a_thread() else { return 0 };
        self.with_session(|session| session.read_memory(tid, addr, buf))
    }

    fn write_memory(&mut self, addr: Addr, bytes: &[u8]) -> Result<(), TargetError> {
        let Some(tid) = self.a_thread() else {
            return Err(TargetError::Refused("the program is not being run".into()));
        };
        self.begin_changes(tid)?;
        match self.changes.get_mut() {
            Some(changes) => changes.write_memory(tid, addr, bytes),
            None => Ok(()),
        }
    }

    fn auxv(&self) -> Vec<u8> {
        self.auxiliary_vector().unwrap_or_default()
    }

    fn exec_file(&self) -> String {
        let Some(tid) = self.a_thread() else {
            return String::new();
        };
        self.with_session(|session| session.program_of(tid).unwrap_or_default().to_owned())
    }

    fn siginfo(&self, tid: Tid) -> Option<Vec<u8>> {
        let mut timeline = self.timeline.borrow_mut();
        if !timeline.position().arrived {
            return None;
        }
        let event = timeline.session_mut().next_event().ok()??;
        match &event.kind {
            EventKind::Signal { info, .. } if event.tid == tid => Some(info.clone()),
            _ => None,
        }
    }

    fn maps(&self) -> String {
        self.mappings()
    }

    fn resume(
        &mut self,
        action: Action,
        direction: Direction,
        options: &StopOptions,
        interrupt: &mut dyn Interrupt,
    ) -> Result<Stop, TargetError> {
        if let Some(stop) = self.resume_changes(action, direction, interrupt)? {
            return Ok(stop);
        }
        let stops = self.points.stops(options);
        let timeline = self.timeline.get_mut();
        timeline.stops = stops;
        let mut asked = Asked::new(interrupt);
        let stop = match (direction, action) {
            (Direction::Forward, Action::Continue) => timeline.resume(timeline::Action::Continue, &mut asked),
            (Direction::Forward, Action::Step(tid)) => {
                timeline.resume(timeline::Action::Step(tid), &mut asked)
            }
            (Direction::Forward, Action::StepRange(tid, range)) => {
                timeline.resume(timeline::Action::StepRange(tid, range), &mut asked)
            }
            (Direction::Backward, Action::Continue) => timeline.reverse_continue(&mut asked),
            (Direction::Backward, Action::Step(tid) | Action::StepRange(tid, _)) => {
                timeline.reverse_step(tid, &mut asked)
            }
        };
        match stop {
            Ok(stop) => Ok(self.stop_of(stop)),
            Err(error) => {
                self.current = self.thread_here();
                Err(failed(error))
            }
        }
    }

    fn restart(&mut self, to: Restart, interrupt: &mut dyn Interrupt) -> Result<Stop, TargetError> {
        let position = match to {
            Restart::Last => self.places.restart().clone(),
            Restart::Checkpoint(number) => {
                let found = self.places.checkpoint(number).cloned();
                found.ok_or_else(|| TargetError::Refused(self.places.no_such_checkpoint(number)))?
            }
            Restart::Event(event) => self.place_of_event(EventNumber(event))?,
            Restart::Back => self.places.before().ok_or_else(|| no_more("back"))?,
            Restart::Forward => self.places.after().ok_or_else(|| no_more("forward"))?,
        };
        let Some(tid) = self.go(&position, interrupt)? else {
            return Ok(Stop::Interrupted {
                tid: self.current.unwrap_or(self.process()),
            });
        };
        match to {
            Restart::Back => self.places.went_back(),
            Restart::Forward => self.places.went_forward(),
            Restart::Last | Restart::Checkpoint(_) | Restart::Event(_) => self.places.set_restart(position),
        }
        Ok(Stop::Stepped { tid })
    }

    fn insert_point(
        &mut self,
        kind: PointKind,
        addr: Addr,
        len: u64,
        conditions: Vec<Box<dyn Condition>>,
    ) -> Result<(), TargetError> {
        self.points.insert(kind, addr, len, conditions)
    }

    fn remove_point(&mut self, kind: PointKind, addr: Addr, len: u64) -> Result<(), TargetError> {
        self.points.remove(kind, addr, len);
        Ok(())
    }

    fn command(&mut self, name: &str, tid: Option<Tid>, args: &[String]) -> Result<String, TargetError> {
        self.execute(name, tid, args)
    }

    fn open_file(&self, path: &str) -> Option<Member> {
        self.recorded_file(path)
    }
}

impl ReplayTarget {
    /// A thread whose memory is the process's.
    fn a_thread(&self) -> Option<Tid> {
        let process = self.process();
        let current = self.current;
        self.with_session(|session| {
            let threads = session.threads_of(process);
            current
                .filter(|tid| threads.contains(tid))
                .or(threads.first().copied())
        })
    }

    /// An event as a place: one that the process lives at.
    fn place_of_event(&self, event: EventNumber) -> Result<Position, TargetError> {
        let timeline = self.timeline.borrow();
        let end = timeline.session().end();
        if event.0 == 0 {
            return Err(TargetError::Refused(format!(
                "the recording has the events 1 to {end}"
            )));
        }
        let process = self
            .processes
            .iter()
            .rfind(|p| p.pid == timeline.process() && p.began <= event);
        let process = process.or_else(|| self.processes.iter().find(|p| p.pid == timeline.process()));
        // One that is beyond the end of the process is the last that it lives at, as in the original.
        let last = process
            .and_then(|p| p.ended)
            .map_or(end, |ended| EventNumber(ended.0 - 1));
        let first = timeline.begin();
        Ok(Position::at_event(event.min(last).max(first)))
    }
}

/// `back` or `forward` has nowhere to go.
fn no_more(way: &str) -> TargetError {
    TargetError::Refused(format!("Can't go {way}. No more history entries."))
}

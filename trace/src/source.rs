//! Events for several readers that go back and forth.
//!
//! An [`EventSource`] hands out the events of a trace by number. Groups of events are decoded whole; those that were used last
//! are kept, up to a bound in bytes ([`EventSource::keep`]), so that going back costs nothing. A reader that
//! goes forward past the kept groups gets those that a thread has read ahead, as with an [`EventCursor`](crate::EventCursor).
//! Keeps: the event handed out for a number is always the event with that number.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sched::CpuSet;

use crate::cursor::{Ahead, Plan, open_segment};
use crate::error::{Error, Result};
use crate::event::{Event, EventKind, EventNumber, Output, OutputSource, TaskOp};
use crate::reader::TraceReader;
use crate::segment::Batch;

/// Events of one group, in order. Never empty.
type Group = Arc<[Arc<Event>]>;

/// Decoded groups that are not used any more: enough to go back and forth in for a debugger.
pub const KEEP_MOST: u64 = 256 << 20;

/// The events of a trace.
#[derive(Debug)]
pub struct EventSource {
    trace: Arc<TraceReader>,
    /// The CPUs of the threads that read ahead, if the trace does not say.
    cpus: Option<CpuSet>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the first event.
    kept: BTreeMap<EventNumber, Kept>,
    /// Bytes of all that is kept.
    bytes: u64,
    /// Maximum number of bytes that are kept.
    most: u64,
    /// Grows with every use.
    clock: u64,
    /// The groups from this event on are being read.
    ahead: Option<(EventNumber, Ahead<Group>)>,
    /// After the group that was read by itself last: if that is wanted next, somebody goes forward there.
    after_single: Option<EventNumber>,
    /// The groups of the segments that were looked into: first event and offset of each.
    index: HashMap<EventNumber, Vec<(EventNumber, u64)>>,
}

#[derive(Debug)]
struct Kept {
    group: Group,
    bytes: u64,
    used: u64,
}

impl EventSource {
    /// The events of `trace`. Nothing is kept until somebody asks for that.
    pub fn new(trace: Arc<TraceReader>) -> Arc<EventSource> {
        Arc::new(EventSource {
            trace,
            cpus: nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok(),
            state: Mutex::default(),
        })
    }

    /// Keeps decoded events from now on, about this number of bytes ([`KEEP_MOST`]).
    pub fn keep(&self, most: u64) {
        let mut state = self.state();
        state.most = most;
        state.make_room();
    }

    /// About how many bytes of decoded events are kept.
    pub fn kept_bytes(&self) -> u64 {
        self.state().bytes
    }

    /// A place in the events, before `next`, which may be one more than the last event.
    pub fn from(self: &Arc<EventSource>, next: EventNumber) -> Result<EventPosition> {
        self.trace.check_number(next)?;
        let mut state = self.state();
        // Most go forward from there; and it begins beside what the caller does until then.
        if state.ahead.is_none() && state.kept.is_empty() && next <= self.trace.last_event() {
            state.ahead = Some((next, self.read_ahead(next)?));
        }
        drop(state);
        Ok(EventPosition {
            source: Arc::clone(self),
            group: None,
            at: 0,
            next,
        })
    }

    /// An event; `None` after the last.
    pub fn get(&self, number: EventNumber) -> Result<Option<Arc<Event>>> {
        let Some(group) = self.group_of(number)? else {
            return Ok(None);
        };
        Ok(place_in(&group, number).map(|at| Arc::clone(&group[at])))
    }

    // A thread that died of a panic has changed nothing by halves that matters: all is read again if it is not there.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_ahead(&self, from: EventNumber) -> Result<Ahead<Group>> {
        let make = |events: Vec<Event>| events.into_iter().map(Arc::new).collect();
        Ahead::start(self.plan(from), make)
    }

    fn plan(&self, from: EventNumber) -> Plan {
        let mut plan = self.trace.plan(from);
        plan.cpus = plan.cpus.or(self.cpus);
        plan
    }

    /// The group that an event is in; `None` after the last.
    fn group_of(&self, number: EventNumber) -> Result<Option<Group>> {
        if number > self.trace.last_event() {
            return Ok(None);
        }
        self.trace.check_number(number)?;
        let mut state = self.state();
        state.clock += 1;
        let now = state.clock;
        if let Some((_, kept)) = state.kept.range_mut(..=number).next_back()
            && place_in(&kept.group, number).is_some()
        {
            kept.used = now;
            return Ok(Some(Arc::clone(&kept.group)));
        }
        if state.after_single == Some(number) && state.ahead.as_ref().is_none_or(|(next, _)| *next != number)
        {
            state.ahead = Some((number, self.read_ahead(number)?));
        }
        let group = match state.ahead.take_if(|(next, _)| *next == number) {
            Some((_, mut ahead)) => match ahead.next() {
                Some(group) => {
                    let group = group?;
                    if let Some(last) = group.last() {
                        state.ahead = Some((last.number.next(), ahead));
                    }
                    group
                }
                None => return Err(self.missing(number)),
            },
            None => {
                let group = self.read_single(&mut state, number)?;
                state.after_single = group.last().map(|last| last.number.next());
                group
            }
        };
        if place_in(&group, number).is_none() {
            return Err(self.missing(number));
        }
        state.add(&group, now);
        Ok(Some(group))
    }

    /// Reads one group, and none of those before it.
    fn read_single(&self, state: &mut State, number: EventNumber) -> Result<Group> {
        let plan = self.plan(number);
        let (Some(mut stream), Some(segment)) = (open_segment(&plan, 0)?, plan.segments.first()) else {
            return Err(self.missing(number));
        };
        let index = match state.index.entry(*segment) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let index = stream.groups();
                let Some(again) = open_segment(&plan, 0)? else {
                    return Err(self.missing(number));
                };
                stream = again;
                new.insert(index)
            }
        };
        let before = index.partition_point(|(first, _)| *first <= number);
        if let Some((first, offset)) = before.checked_sub(1).and_then(|n| index.get(n)) {
            stream.go_to(*first, *offset);
        }
        match stream.next_batch(number)? {
            Some(Batch::Events(events)) => Ok(events.into_iter().map(Arc::new).collect()),
            Some(Batch::End(_)) | None => Err(self.missing(number)),
        }
    }

    /// The trace does not hold what it should (it was cut short since it was opened, say).
    fn missing(&self, event: EventNumber) -> Error {
        Error::NoSuchEvent {
            path: self.trace.path().to_owned(),
            event,
            first: self.trace.first_event(),
            last: self.trace.last_event(),
        }
    }
}

impl State {
    fn add(&mut self, group: &Group, used: u64) {
        let Some(first) = group.first() else { return };
        if self.most == 0 {
            return;
        }
        let bytes = group.iter().map(|event| size_of_event(event)).sum();
        let kept = Kept {
            group: Arc::clone(group),
            bytes,
            used,
        };
        self.bytes += bytes;
        if let Some(before) = self.kept.insert(first.number, kept) {
            self.bytes -= before.bytes;
        }
        self.make_room();
    }

    /// Forgets the groups that were not used for the longest time.
    fn make_room(&mut self) {
        while self.bytes > self.most {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
            let Some(first) = oldest.map(|(first, _)| *first) else {
                break;
            };
            if let Some(kept) = self.kept.remove(&first) {
                self.bytes -= kept.bytes;
            }
        }
    }
}

/// The index of an event in a group.
fn place_in(group: &[Arc<Event>], number: EventNumber) -> Option<usize> {
    let first = group.first()?.number;
    let at = usize::try_from(number.0.checked_sub(first.0)?).ok()?;
    (group.get(at)?.number == number).then_some(at)
}

/// About how many bytes of memory an event takes.
fn size_of_event(event: &Event) -> u64 {
    let kind = match &event.kind {
        EventKind::Start { xstate, .. } => xstate.0.len(),
        EventKind::Syscall {
            xstate, task, output, ..
        } => {
            let output = match output {
                Some(Output {
                    source: OutputSource::Bytes(bytes),
                    ..
                }) => bytes.len(),
                Some(Output {
                    source: OutputSource::Memory(ranges),
                    ..
                }) => 16 * ranges.len(),
                None => 0,
            };
            let args = match task {
                Some(TaskOp::Exec(exec)) => exec.args.iter().map(|arg| arg.len() + 24).sum(),
                _ => 0,
            };
            output + args + xstate.as_ref().map_or(0, |x| x.0.len())
        }
        EventKind::Signal { xstate, .. } => 128 + xstate.as_ref().map_or(0, |x| x.0.len()),
        EventKind::SetRegisters { xstate, .. } => xstate.as_ref().map_or(0, |x| x.0.len()),
        EventKind::Point { point, .. } => {
            size_of_val(&**point)
                + point.xstate.0.len()
                + 24 * (point.discriminators.len() + point.digests.len())
        }
        EventKind::SyscallEnter { .. }
        | EventKind::Restart { .. }
        | EventKind::Trap { .. }
        | EventKind::Exit { .. } => 0,
    };
    let writes: usize = event.writes.iter().map(|w| size_of_val(w) + w.data.len()).sum();
    let object_writes = event.object_writes.iter();
    let writes = writes
        + object_writes
            .map(|w| size_of_val(w) + w.data.len())
            .sum::<usize>();
    let ops = size_of_val(&*event.ops) + size_of_val(&*event.others);
    (size_of::<Event>() + 24 + kind + event.buffered.len() + writes + ops) as u64
}

/// A place in the events of a trace: between two of them. A clone is another place, that goes its own way.
#[derive(Clone, Debug)]
pub struct EventPosition {
    source: Arc<EventSource>,
    /// The group of the event before or after.
    group: Option<Group>,
    /// The index of `next` in it.
    at: usize,
    next: EventNumber,
}

impl EventPosition {
    /// The source of the events.
    pub fn source(&self) -> &Arc<EventSource> {
        &self.source
    }

    /// As [`EventSource::keep`], and the events around this place are kept from the beginning.
    pub fn keep(&self, most: u64) {
        self.source.keep(most);
        if let Some(group) = &self.group {
            let mut state = self.source.state();
            let first = group.first().map(|event| event.number);
            if first.is_some_and(|first| !state.kept.contains_key(&first)) {
                state.clock += 1;
                let now = state.clock;
                state.add(group, now);
            }
        }
    }

    /// The number of the event after this place, if there is one.
    pub fn next_number(&self) -> EventNumber {
        self.next
    }

    /// The event after this place, which stays where it is; `None` after the last.
    pub fn peek(&mut self) -> Result<Option<&Arc<Event>>> {
        let there = self.group.as_ref().is_some_and(|group| self.at < group.len());
        if !there {
            let group = self.source.group_of(self.next)?;
            self.at = group
                .as_ref()
                .and_then(|group| place_in(group, self.next))
                .unwrap_or(0);
            self.group = group;
        }
        Ok(self.group.as_ref().and_then(|group| group.get(self.at)))
    }

    /// The event after this place, which is after it then; `None` after the last.
    #[allow(clippy::should_implement_trait)] // an error does not end it
    pub fn next(&mut self) -> Result<Option<Arc<Event>>> {
        let event = self.peek()?.cloned();
        if event.is_some() {
            self.at += 1;
            self.next = self.next.next();
        }
        Ok(event)
    }
}

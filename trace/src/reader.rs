//! Reading a trace.
//!
//! [`TraceReader::open`] looks at the header and at the last segment; everything else is read when it is asked for.
//! A reader sees the trace as it was when it was opened, so a trace can be read while it is recorded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::CpuSet;
use rr_tracee::{FileId, ReadAt};

use crate::beginning::Beginning;
use crate::cursor::{EventCursor, Plan};
use crate::dir::Part;
use crate::error::{Error, Result};
use crate::event::EventNumber;
use crate::header::Header;
use crate::lineage::{Lineage, Process};
use crate::member::Member;
use crate::members::Members;
use crate::name::{Name, Note};
use crate::pack::Pack;
use crate::segment::{SEGMENT_HEADER_LEN, Scan, Stream};

/// An opened trace.
///
/// ```no_run
/// use rr_trace::{EventKind, EventNumber, TraceReader};
///
/// let reader = TraceReader::open("trace".as_ref())?;
/// println!("{:?}: events {} to {}", reader.header().args, reader.first_event(), reader.last_event());
/// for event in reader.events_from(EventNumber(1))? {
///     let event = event?;
///     if let EventKind::Signal { signo, .. } = event.kind {
///         println!("event {}: task {} gets signal {signo}", event.number, event.tid);
///     }
/// }
/// # Ok::<(), rr_trace::Error>(())
/// ```
#[derive(Debug)]
pub struct TraceReader {
    members: Members,
    header: Header,
    /// First events of the segments that count, ascending.
    segments: Vec<EventNumber>,
    /// Where the trace begins, if its first events were deleted.
    beginning: Option<Beginning>,
    /// The part of the last of them that counts; or an empty one.
    tail: Scan,
    torn: u64,
    cpus: Option<CpuSet>,
}

impl TraceReader {
    /// Opens the trace in the directory `path`, or in the pack.
    ///
    /// A torn end, as a killed recorder leaves it, is left out ([`TraceReader::torn_bytes`]); any other damage of the
    /// header or the last segment is an error. The other segments are checked when they are read.
    pub fn open(path: &Path) -> Result<TraceReader> {
        let members = Members::of(path)?;
        let header = Header::read(&members)?;
        if let Members::Pack(pack) = &members
            && *pack.uuid() != header.uuid
        {
            return Err(Error::damaged(path, 16, "the pack holds another trace"));
        }
        let mut segments = members.segments()?;
        // After the segments: what a recorder deletes meanwhile is before the beginning that is read then.
        let beginning = Beginning::read(&members, &header.uuid)?;
        if let Some(beginning) = &beginning {
            let from = beginning.event.next();
            let before = segments.partition_point(|first| *first <= from);
            segments.drain(..before.saturating_sub(1));
        }
        let mut torn = 0;
        let mut tail = None;
        // A segment without a whole group of frames holds nothing: what counts ends in the one before.
        while let Some(&first) = segments.last() {
            let (scan, size) = scan(&members, &header.uuid, first)?;
            let empty = Scan {
                end: 0,
                last: EventNumber(first.0.saturating_sub(1)),
                ended: None,
            };
            let scan = scan.unwrap_or(empty);
            torn += size - scan.end;
            tail = Some(scan);
            if scan.last >= first || scan.ended.is_some() {
                break;
            }
            torn += scan.end;
            segments.pop();
        }
        let tail = tail.unwrap_or(Scan {
            end: 0,
            last: EventNumber(0),
            ended: None,
        });
        if torn > 0 {
            tracing::info!(
                "{}: left out {torn} torn bytes after event {}",
                path.display(),
                tail.last
            );
        }
        Ok(TraceReader {
            members,
            header,
            segments,
            beginning,
            tail,
            torn,
            cpus: None,
        })
    }

    /// Lets the threads that read ahead run on these CPUs; otherwise they run where their creator does.
    pub fn set_background_cpus(&mut self, cpus: CpuSet) {
        self.cpus = Some(cpus);
    }

    /// The trace, a directory or a pack, as it was given.
    pub fn path(&self) -> &Path {
        self.members.path()
    }

    /// The pack that the trace is, if it is one.
    pub fn pack(&self) -> Option<&Arc<Pack>> {
        match &self.members {
            Members::Pack(pack) => Some(pack),
            Members::Directory(_) => None,
        }
    }

    /// The header: program, machine and options of the recording.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The first event that the trace holds: 1, unless older ones were deleted. One more than
    /// [`TraceReader::last_event`] if it holds none.
    pub fn first_event(&self) -> EventNumber {
        let first = self.segments.first().copied().unwrap_or(self.tail.last.next());
        let begin = self.beginning.as_ref().map(|beginning| beginning.event.next());
        begin.map_or(first, |begin| first.max(begin))
    }

    /// The event of the checkpoint that replay begins at, if the first events were deleted while the trace was recorded.
    pub fn begins_at(&self) -> Option<EventNumber> {
        self.beginning.as_ref().map(|beginning| beginning.event)
    }

    /// The processes, if the recording has a table of them at its end.
    pub(crate) fn process_table(&self) -> Result<Option<Vec<Process>>> {
        let (Some(end), Some(&segment)) = (&self.tail.ended, self.segments.last()) else {
            return Ok(None);
        };
        let file = self.members.open(Name::Segment(segment))?;
        let path = file.path().to_owned();
        let stream = Stream::open(file, &path, Some(&self.header.uuid), Some(segment))?;
        stream.processes(end, self.begins_at())
    }

    /// The processes at the beginning.
    pub(crate) fn lineage(&self) -> Lineage {
        let begin = self.beginning.clone();
        begin.map_or_else(Lineage::default, |begin| {
            Lineage::from_living(begin.event, begin.processes)
        })
    }

    /// The last event that the trace holds; 0 if there is none.
    pub fn last_event(&self) -> EventNumber {
        self.tail.last
    }

    /// Status of the program's first process as wait(2) gives it; `None` if the recording did not end in an orderly way.
    pub fn exit_status(&self) -> Option<i32> {
        self.tail.ended.map(|end| end.status)
    }

    /// Says if the recording ended in an orderly way.
    pub fn is_complete(&self) -> bool {
        self.tail.ended.is_some()
    }

    /// Returns whether no instruction of the program could tell it on which CPU it ran. Not known, and so false, of a recording
    /// that did not end in an orderly way.
    pub fn hides_cpu(&self) -> bool {
        self.tail.ended.is_some_and(|end| end.hides_cpu)
    }

    /// Calls that the library in the program made: in the whole recording, or, if that did not end in an orderly way, in the
    /// events that there are (which are read for it).
    pub fn buffered_calls(&self) -> Result<u64> {
        if let Some(end) = self.tail.ended {
            return Ok(end.buffered_calls);
        }
        let mut sum = 0;
        for event in self.events_from(self.first_event())? {
            sum += event?.buffered_calls();
        }
        Ok(sum)
    }

    /// Bytes at the end that the recorder was writing when it was killed, and that do not count.
    pub fn torn_bytes(&self) -> u64 {
        self.torn
    }

    /// First events of the segments, ascending.
    pub fn segments(&self) -> &[EventNumber] {
        &self.segments
    }

    /// The events from `from` to the last one. `from` may be one more than the last event: then there are none.
    pub fn events_from(&self, from: EventNumber) -> Result<EventCursor> {
        self.check_number(from)?;
        EventCursor::start(self.plan(from))
    }

    /// An error if `from` is not an event, nor one more than the last.
    pub(crate) fn check_number(&self, from: EventNumber) -> Result<()> {
        let (first, last) = (self.first_event(), self.last_event());
        if from < first || from > last.next() {
            return Err(Error::NoSuchEvent {
                path: self.path().to_owned(),
                event: from,
                first,
                last,
            });
        }
        Ok(())
    }

    pub(crate) fn plan(&self, from: EventNumber) -> Plan {
        let skip = self
            .segments
            .partition_point(|segment| *segment <= from)
            .saturating_sub(1);
        Plan {
            members: self.members.clone(),
            uuid: self.header.uuid,
            segments: self.segments.get(skip..).unwrap_or_default().to_vec(),
            tail: self.tail,
            from,
            cpus: self.cpus,
        }
    }

    /// Opens a mapped file for reading.
    pub fn open_file(&self, file: FileId) -> Result<Member> {
        self.members.open(Name::File(file)).map_err(|e| {
            let why = match e {
                Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    "no such file".to_owned()
                }
                Error::Io { source, .. } => source.to_string(),
                Error::NotATrace { why, .. } => why,
                e => return e,
            };
            Error::MissingFile {
                path: self.members.path_of(Name::File(file)),
                file,
                why,
            }
        })
    }

    /// The members that a pack takes over as they are: the header, mapped files, notes, the beginning.
    pub(crate) fn plain_members(&self) -> Result<Vec<Name>> {
        let mut all = vec![Name::Header];
        all.extend(self.members.files()?.into_iter().map(Name::File));
        for note in Note::ALL {
            all.extend(self.open_note(note)?.map(|_| Name::Note(note)));
        }
        all.extend(self.beginning.as_ref().map(|_| Name::Beginning));
        Ok(all)
    }

    /// Opens any member.
    pub(crate) fn open_member(&self, name: Name) -> Result<Member> {
        match name {
            Name::File(file) => self.open_file(file),
            name => self.members.open(name),
        }
    }

    /// The length of a mapped file, if it is there.
    pub fn file_size(&self, file: FileId) -> Option<u64> {
        self.members.size(Name::File(file)).ok()
    }

    /// The mapped files that are there.
    pub fn files(&self) -> Result<Vec<FileId>> {
        self.members.files()
    }

    /// Opens what was put beside the recording, if that was done.
    pub fn open_note(&self, note: Note) -> Result<Option<Member>> {
        match self.members.open(Name::Note(note)) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// The directory of the checkpoints, for writers. A pack has none ([`Error::ReadOnly`]).
    pub fn checkpoint_dir(&self) -> Result<PathBuf> {
        Ok(self.members.directory()?.path().join(Part::Checkpoints.name()))
    }

    /// The path of the checkpoint at `event`, if there is one or not.
    pub fn checkpoint_path(&self, event: EventNumber) -> PathBuf {
        self.members.path_of(Name::Checkpoint(event))
    }

    /// Opens the checkpoint at `event` for reading.
    pub fn open_checkpoint(&self, event: EventNumber) -> Result<Member> {
        self.members.open(Name::Checkpoint(event))
    }

    /// The events at which there are checkpoints to start from, ascending.
    ///
    /// Checkpoints beyond the last event, or before the event that precedes the first one, are left out: the former were written
    /// by a recorder that was killed before it flushed the events, for the latter the events are gone.
    pub fn checkpoints(&self) -> Result<Vec<EventNumber>> {
        let mut all = self.members.checkpoints()?;
        let (first, last) = (self.first_event(), self.last_event());
        all.retain(|event| event.next() >= first && *event <= last);
        Ok(all)
    }
}

/// The part of the segment that begins with `first`, if it has a whole header; and its size.
fn scan(members: &Members, uuid: &[u8; 16], first: EventNumber) -> Result<(Option<Scan>, u64)> {
    let file = members.open(Name::Segment(first))?;
    let path = file.path().to_owned();
    let size = file.size().map_err(|e| Error::io(&path, "examining", e))?;
    if size < SEGMENT_HEADER_LEN as u64 {
        return Ok((None, size));
    }
    let mut start = [0; SEGMENT_HEADER_LEN];
    file.read_exact_at(&mut start, 0)
        .map_err(|e| Error::io(&path, "reading", e))?;
    if start == [0; SEGMENT_HEADER_LEN] {
        // A power failure can leave a file with its size but without its contents.
        return Ok((None, size));
    }
    if first.0 == 0 {
        return Err(Error::damaged(&path, 0, "there is no event 0"));
    }
    let mut stream = Stream::open(file, &path, Some(uuid), Some(first))?;
    // The file may be growing: what comes later does not count, for both numbers.
    stream.limit(size);
    Ok((Some(stream.scan()?), size))
}

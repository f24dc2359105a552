//! Reading one segment.
//!
//! ```text
//! offset size
//!      0    8  magic "rr-segm\n"
//!      8    4  format version; the layout up to here is the same in all versions
//!     12    4  zero
//!     16   16  uuid of the trace
//!     32    8  first event of the segment; also its name
//!     40    8  xxh3-64 of bytes 0 to 39
//!     48       frames (see `frame`)
//! ```
//!
//! The frames of a segment come in groups: any number of Data frames, then the Events frame that they belong to; all
//! of a group have the same first and last event, and groups follow each other without a gap. The last frame of the
//! last segment is an End frame if the recording ended in an orderly way.
//!
//! A killed recorder leaves a cut in the last group. `Stream::scan` tells a cut from damage: no intact frame header follows a
//! cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rr_schema::rr_capnp as wire;
use rr_tracee::ReadAt;
use xxhash_rust::xxh3::xxh3_64;

use crate::dictionary::Dictionaries;
use crate::error::{Error, Malformed, Result};
use crate::event::{Event, EventNumber};
use crate::extents::{Assembly, Extents};
use crate::frame::{
    Codec, FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_RAW_MAX, FrameHeader, FrameKind, bytes_at, sum_is,
};
use crate::header::{FORMAT_VERSION, check_prefix};
use crate::lineage::Process;
use crate::member::Member;
use crate::message::{self, BATCH_DATA_MAX, EVENT_DATA_MAX};
use crate::process_table;

/// Bytes before the first frame.
pub const SEGMENT_HEADER_LEN: usize = 48;

const MAGIC: [u8; 8] = *b"rr-segm\n";

/// Number of data blocks that are used again: those of the groups that are read ahead, and of the group that is replayed.
const POOLS: usize = 6;

/// The start of a segment file: everything before its first frame.
pub fn encode_header(uuid: &[u8; 16], first: EventNumber) -> [u8; SEGMENT_HEADER_LEN] {
    let mut out = [0; SEGMENT_HEADER_LEN];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[16..32].copy_from_slice(uuid);
    out[32..40].copy_from_slice(&first.0.to_le_bytes());
    let sum = xxh3_64(&out[..40]);
    out[40..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The bytes of a segment.
pub(crate) trait Source: ReadAt {
    /// The dictionaries that its frames may name.
    fn dictionaries(&self) -> Option<&Dictionaries> {
        None
    }
}

impl Source for Member {
    fn dictionaries(&self) -> Option<&Dictionaries> {
        Member::dictionaries(self)
    }
}

impl Source for &[u8] {}

/// The end of a recording that ended in an orderly way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    /// Status of the program's first process.
    pub(crate) status: i32,
    /// Calls that the library in the program made.
    pub(crate) buffered_calls: u64,
    /// No instruction of the program could tell it on which CPU it ran.
    pub(crate) hides_cpu: bool,
    /// The offset of its frame.
    pub(crate) offset: u64,
}

/// The contents of a group of frames.
pub(crate) enum Batch {
    /// Events.
    Events(Vec<Event>),
    /// The end of the recording.
    End(End),
}

/// The state of the last segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scan {
    /// One past the last byte that counts.
    pub(crate) end: u64,
    /// The last event.
    pub(crate) last: EventNumber,
    /// The recording ended in an orderly way.
    pub(crate) ended: Option<End>,
}

/// A frame and where it is.
#[derive(Clone, Copy)]
struct Frame {
    offset: u64,
    header: FrameHeader,
}

/// A frame with its payload.
pub(crate) struct RawFrame {
    pub(crate) header: FrameHeader,
    /// As it is stored.
    pub(crate) stored: Vec<u8>,
    /// As it was.
    pub(crate) raw: Vec<u8>,
}

/// The frames of a segment, in order.
pub(crate) struct Stream<S> {
    source: S,
    path: PathBuf,
    /// The offset at which reading stops.
    end: u64,
    /// The offset of the next frame.
    offset: u64,
    /// The event that comes next.
    next: EventNumber,
    /// Data frames that wait for their Events frame.
    data: Vec<Frame>,
    /// The Extents frame that waits for it.
    extents: Option<Frame>,
    /// The contents of the Data frames of the last groups: the memory is used again when no event shares it any more.
    pools: Vec<Arc<Vec<u8>>>,
    /// First and last event of the group under way.
    group: Option<(EventNumber, EventNumber)>,
    /// Bytes of data of the group under way.
    data_len: u64,
    /// Its Extents frame was there: no data follow.
    whole_data: bool,
    ended: bool,
}

impl<S: Source> Stream<S> {
    /// Opens a segment. `uuid` and `first` are what its header must say.
    pub(crate) fn open(
        source: S,
        path: &Path,
        uuid: Option<&[u8; 16]>,
        first: Option<EventNumber>,
    ) -> Result<Self> {
        let len = source.size().map_err(|e| Error::io(path, "examining", e))?;
        if len < SEGMENT_HEADER_LEN as u64 {
            return Err(Error::damaged(path, len, "the file ends within its header"));
        }
        let mut header = [0; SEGMENT_HEADER_LEN];
        source
            .read_exact_at(&mut header, 0)
            .map_err(|e| Error::io(path, "reading", e))?;
        check_prefix(&header, &MAGIC, path)?;
        if !sum_is(&header[..40], u64::from_le_bytes(bytes_at(&header, 40))) {
            return Err(Error::damaged(path, 0, "wrong checksum of the segment header"));
        }
        if uuid.is_some_and(|uuid| header[16..32] != *uuid) {
            return Err(Error::damaged(path, 16, "the segment belongs to another trace"));
        }
        let next = EventNumber(u64::from_le_bytes(bytes_at(&header, 32)));
        if next.0 == 0 || first.is_some_and(|first| first != next) {
            return Err(Error::damaged(
                path,
                32,
                format!("the segment begins with event {next}"),
            ));
        }
        let offset = SEGMENT_HEADER_LEN as u64;
        let path = path.to_owned();
        Ok(Stream {
            source,
            path,
            end: len,
            offset,
            next,
            data: Vec::new(),
            extents: None,
            pools: Vec::new(),
            group: None,
            data_len: 0,
            whole_data: false,
            ended: false,
        })
    }

    /// Makes reading stop at `end`, which [`Stream::scan`] found.
    pub(crate) fn limit(&mut self, end: u64) {
        self.end = end;
    }

    /// The segment, and how far it has been read.
    pub(crate) fn place(&self) -> (&Path, u64) {
        (&self.path, self.offset)
    }

    /// The groups from here on: first event and offset of each. This reads headers alone: groups after damage are not
    /// found, and the damage is reported when it is read.
    pub(crate) fn groups(&mut self) -> Vec<(EventNumber, u64)> {
        let mut groups = Vec::new();
        while self.offset < self.end {
            let Ok(Ok(frame)) = self.frame_at(self.offset) else {
                break;
            };
            let begins = self.group.is_none();
            if self.accept(frame).is_err() {
                break;
            }
            if begins && frame.header.kind != FrameKind::End {
                groups.push((frame.header.first, frame.offset));
            }
        }
        groups
    }

    /// Goes on with a group that [`Stream::groups`] found. For a segment that nothing was read of yet.
    pub(crate) fn go_to(&mut self, first: EventNumber, offset: u64) {
        self.next = first;
        self.offset = offset;
    }

    /// The event that comes after those read.
    pub(crate) fn next_event(&self) -> EventNumber {
        self.next
    }

    fn damaged(&self, offset: u64, why: impl Into<String>) -> Error {
        Error::damaged(&self.path, offset, why)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.source
            .read_exact_at(buf, offset)
            .map_err(|e| Error::io(&self.path, "reading", e))
    }

    /// The frame at `offset`, if it is intact as far as its header says.
    fn frame_at(&self, offset: u64) -> Result<Result<Frame, Malformed>> {
        let left = self.end.saturating_sub(offset);
        if left < FRAME_HEADER_LEN as u64 {
            return Ok(Err(Malformed::new("the file ends within a frame header")));
        }
        let mut bytes = [0; FRAME_HEADER_LEN];
        self.read(offset, &mut bytes)?;
        Ok(FrameHeader::decode(&bytes).and_then(|header| {
            if header.frame_len() > left {
                return Err(Malformed::new(format!(
                    "the file ends within a frame of {} bytes",
                    header.frame_len()
                )));
            }
            Ok(Frame { offset, header })
        }))
    }

    /// Checks that a frame may come here, and steps over it.
    fn accept(&mut self, frame: Frame) -> Result<()> {
        let Frame { offset, header } = frame;
        let (first, last) = (header.first, header.last);
        if self.ended {
            return Err(self.damaged(offset, "a frame after the end of the recording"));
        }
        match header.kind {
            FrameKind::End => {
                if self.group.is_some() || first != last || last.0 != self.next.0 - 1 {
                    return Err(self.damaged(
                        offset,
                        format!("the end after event {last}, {} follows", self.next),
                    ));
                }
                self.ended = true;
            }
            FrameKind::Data | FrameKind::Extents | FrameKind::Events => {
                if first != self.next
                    || last.0 == u64::MAX
                    || self.group.is_some_and(|group| group != (first, last))
                    || self.whole_data && header.kind != FrameKind::Events
                {
                    let why = format!("a frame of events {first} to {last}, event {} follows", self.next);
                    return Err(self.damaged(offset, why));
                }
                if header.kind == FrameKind::Data {
                    self.group = Some((first, last));
                    self.data_len += u64::from(header.raw_len);
                    if self.data_len > EVENT_DATA_MAX {
                        return Err(self.damaged(offset, "more data than a group of frames may have"));
                    }
                } else if header.kind == FrameKind::Extents {
                    self.group = Some((first, last));
                    self.whole_data = true;
                } else {
                    self.group = None;
                    self.data_len = 0;
                    self.whole_data = false;
                    self.next = last.next();
                }
            }
        }
        self.offset = offset + header.frame_len();
        Ok(())
    }

    /// The bytes before the first frame, as they are stored.
    pub(crate) fn header(&self) -> Result<[u8; SEGMENT_HEADER_LEN]> {
        let mut header = [0; SEGMENT_HEADER_LEN];
        self.read(0, &mut header)?;
        Ok(header)
    }

    /// The next frame: its header, its payload as it is stored and as it was, and where it is.
    pub(crate) fn next_frame(&mut self) -> Result<Option<RawFrame>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let frame = self.frame_at(self.offset)?;
        let frame = frame.map_err(|e| e.at(&self.path, self.offset))?;
        self.accept(frame)?;
        Ok(Some(RawFrame {
            header: frame.header,
            stored: self.stored(&frame)?,
            raw: self.payload(&frame)?,
        }))
    }

    /// The payload of a frame.
    fn payload(&self, frame: &Frame) -> Result<Vec<u8>> {
        let stored = self.stored(frame)?;
        if frame.header.codec != Codec::Dictionary {
            let payload = frame.header.payload(stored);
            return payload.map_err(|e| e.at(&self.path, frame.offset));
        }
        let mut raw = vec![0; frame.header.raw_len as usize];
        self.unpack(frame, &stored, &mut raw)?;
        Ok(raw)
    }

    /// Fills `raw` with the payload of a frame that is stored so.
    fn unpack(&self, frame: &Frame, stored: &[u8], raw: &mut [u8]) -> Result<()> {
        let unpacked = frame
            .header
            .unpack_with(stored, raw, self.source.dictionaries())?;
        unpacked.map_err(|e| e.at(&self.path, frame.offset))
    }

    /// The payload of a frame as it is stored.
    fn stored(&self, frame: &Frame) -> Result<Vec<u8>> {
        let mut stored = vec![0; frame.header.stored_len as usize];
        self.read(frame.offset + FRAME_HEADER_LEN as u64, &mut stored)?;
        Ok(stored)
    }

    /// The next group with events from `from` on, whole; groups before it are skipped unread. `None` at the end.
    pub(crate) fn next_batch(&mut self, from: EventNumber) -> Result<Option<Batch>> {
        while self.offset < self.end {
            let frame = self
                .frame_at(self.offset)?
                .map_err(|e| e.at(&self.path, self.offset))?;
            self.accept(frame)?;
            match frame.header.kind {
                FrameKind::Data if frame.header.last >= from => self.data.push(frame),
                FrameKind::Events if frame.header.last >= from => return self.events(frame).map(Some),
                FrameKind::Extents if frame.header.last >= from => self.extents = Some(frame),
                FrameKind::Data | FrameKind::Extents | FrameKind::Events => {}
                FrameKind::End => return self.ending(&frame).map(|end| Some(Batch::End(end))),
            }
        }
        if self.group.is_some() {
            return Err(self.damaged(
                self.offset,
                "the file ends before the events that its data belong to",
            ));
        }
        Ok(None)
    }

    fn ending(&self, frame: &Frame) -> Result<End> {
        self.read_end(frame, |end| {
            Ok(End {
                status: end.get_status(),
                buffered_calls: end.get_buffered_calls(),
                hides_cpu: end.get_cpu_hidden(),
                offset: frame.offset,
            })
        })
    }

    fn read_end<T>(
        &self,
        frame: &Frame,
        what: impl FnOnce(wire::end::Reader<'_>) -> Result<T, Malformed>,
    ) -> Result<T> {
        let raw = self.payload(frame)?;
        let read = || what(message::unpack(&raw)?.get_root()?);
        read().map_err(|e: Malformed| e.at(&self.path, frame.offset))
    }

    /// The processes that the End frame knows, for a trace that begins after the checkpoint at `begins_at`, or at its first event.
    pub(crate) fn processes(
        &self,
        end: &End,
        begins_at: Option<EventNumber>,
    ) -> Result<Option<Vec<Process>>> {
        let frame = self
            .frame_at(end.offset)?
            .map_err(|e| e.at(&self.path, end.offset))?;
        let last = frame.header.last;
        self.read_end(&frame, |end| match end.has_processes() {
            true => process_table::read(end.get_processes()?, begins_at, last),
            false => Ok(None),
        })
    }

    fn events(&mut self, frame: Frame) -> Result<Batch> {
        let (first, last) = (frame.header.first, frame.header.last);
        let raw = self.payload(&frame)?;
        let (mut events, lengths) =
            message::decode(&raw, first, last).map_err(|e| e.at(&self.path, frame.offset))?;
        drop(raw);
        let frames = std::mem::take(&mut self.data);
        let announced = lengths.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        let present: u64 = frames.iter().map(|f| u64::from(f.header.raw_len)).sum();
        let extents = match self.extents.take() {
            None if announced != present => {
                let why =
                    format!("events with {announced} bytes of data, but {present} bytes in the data frames");
                return Err(self.damaged(frame.offset, why));
            }
            None => None,
            Some(frame) => {
                let read = Extents::read(&self.payload(&frame)?, present, announced);
                Some(read.map_err(|e| e.at(&self.path, frame.offset))?)
            }
        };
        if present <= BATCH_DATA_MAX {
            let pool = self.load(&frames, present as usize)?;
            let mut data = Assembly::new(&pool, present as usize, extents);
            message::fill(&mut events, lengths, &mut data)?;
        } else {
            // A single event: an Extents frame would have been refused.
            let mut data = Frames {
                stream: self,
                frames: frames.iter(),
                current: Vec::new(),
                used: 0,
            };
            message::fill(&mut events, lengths, &mut data)?;
        }
        Ok(Batch::Events(events))
    }

    /// The contents of these frames: the first `len` bytes of the result.
    fn load(&mut self, frames: &[Frame], len: usize) -> Result<Arc<Vec<u8>>> {
        let unused = self
            .pools
            .iter_mut()
            .position(|pool| Arc::get_mut(pool).is_some());
        let mut shared = match unused {
            Some(n) => self.pools.swap_remove(n),
            None => Arc::default(),
        };
        // Nobody else has it: if somebody had, this would be a copy and no mistake.
        let pool = Arc::make_mut(&mut shared);
        if pool.len() < len {
            pool.resize(len, 0);
        }
        let mut rest = &mut pool[..len];
        for frame in frames {
            let (part, more) = rest.split_at_mut(frame.header.raw_len as usize);
            rest = more;
            if frame.header.codec == Codec::Stored {
                self.read(frame.offset + FRAME_HEADER_LEN as u64, part)?;
                frame
                    .header
                    .check(part)
                    .map_err(|e| e.at(&self.path, frame.offset))?;
            } else {
                let stored = self.stored(frame)?;
                self.unpack(frame, &stored, part)?;
            }
        }
        if self.pools.len() < POOLS {
            self.pools.push(Arc::clone(&shared));
        }
        Ok(shared)
    }

    /// Finds out what the last segment of a trace holds, and where a torn end begins. Reads headers, and the payload
    /// of the last frame.
    pub(crate) fn scan(mut self) -> Result<Scan> {
        let mut whole = Scan {
            end: self.offset,
            last: EventNumber(self.next.0 - 1),
            ended: None,
        };
        let mut before = whole;
        let mut last_frame = None;
        while self.offset < self.end {
            let frame = match self.frame_at(self.offset)? {
                Ok(frame) => frame,
                Err(why) => {
                    if let Some(later) = self.find_header(self.offset + 1)? {
                        let why = format!("{why}, but an intact frame follows at offset {later}");
                        return Err(self.damaged(self.offset, why));
                    }
                    break;
                }
            };
            self.accept(frame)?;
            last_frame = Some(frame);
            if matches!(frame.header.kind, FrameKind::Events | FrameKind::End) {
                before = whole;
                whole = Scan {
                    end: self.offset,
                    last: EventNumber(self.next.0 - 1),
                    ended: None,
                };
            }
        }
        let Some(frame) = last_frame else { return Ok(whole) };
        match self.payload(&frame) {
            Ok(_) if frame.header.kind == FrameKind::End => whole.ended = Some(self.ending(&frame)?),
            Ok(_) => {}
            // Data without events do not count anyway.
            Err(Error::Damaged { .. })
                if matches!(frame.header.kind, FrameKind::Data | FrameKind::Extents) => {}
            Err(Error::Damaged { .. }) => whole = before,
            Err(e) => return Err(e),
        }
        Ok(whole)
    }

    /// The first offset from `offset` on where there is an intact frame header.
    fn find_header(&self, mut offset: u64) -> Result<Option<u64>> {
        let mut buf = vec![0; 256 << 10];
        while self.end.saturating_sub(offset) >= FRAME_HEADER_LEN as u64 {
            let len = (buf.len() as u64).min(self.end - offset) as usize;
            let buf = &mut buf[..len];
            self.read(offset, buf)?;
            for (i, window) in buf.windows(FRAME_HEADER_LEN).enumerate() {
                if window[..4] == FRAME_MAGIC && FrameHeader::decode(&bytes_at(window, 0)).is_ok() {
                    return Ok(Some(offset + i as u64));
                }
            }
            // The next extent begins with what may be the start of a header.
            offset += (len - FRAME_HEADER_LEN + 1) as u64;
        }
        Ok(None)
    }
}

/// The bytes of a group's Data frames, one frame in memory at a time.
struct Frames<'a, S> {
    stream: &'a Stream<S>,
    frames: std::slice::Iter<'a, Frame>,
    current: Vec<u8>,
    used: usize,
}

impl<S: Source> message::Data for Frames<'_, S> {
    // They are there: the lengths were compared.
    fn take(&mut self, len: u64) -> Result<Vec<u8>> {
        // No more at once than a frame may have.
        let mut out = Vec::with_capacity(len.min(u64::from(FRAME_RAW_MAX)) as usize);
        while (out.len() as u64) < len {
            if self.used == self.current.len() {
                let Some(frame) = self.frames.next() else { break };
                self.current = self.stream.payload(frame)?;
                self.used = 0;
            }
            let left = &self.current[self.used..];
            let n = (len - out.len() as u64).min(left.len() as u64) as usize;
            out.extend_from_slice(&left[..n]);
            self.used += n;
        }
        Ok(out)
    }
}

/// All events in the bytes of a segment, read like the last segment of a trace, and the exit status if it ends there.
pub fn read_all(bytes: &[u8]) -> Result<(Vec<Event>, Option<i32>)> {
    let path = Path::new("(segment in memory)");
    let scan = Stream::open(bytes, path, None, None)?.scan()?;
    let mut stream = Stream::open(bytes, path, None, None)?;
    stream.limit(scan.end);
    let mut events = Vec::new();
    while let Some(batch) = stream.next_batch(EventNumber(0))? {
        match batch {
            Batch::Events(more) => events.extend(more),
            Batch::End(end) => return Ok((events, Some(end.status))),
        }
    }
    Ok((events, None))
}

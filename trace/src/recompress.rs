//! Segments made smaller: the same frames, with the same payloads, compressed as hard as is worth the time.
//!
//! Keeps: each frame that is written was decompressed and compared with the payload of the one that it stands for.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use zstd::bulk::Compressor;

use crate::cursor;
use crate::dictionary::{Dictionaries, Dictionary};
use crate::error::{Error, Result};
use crate::event::EventNumber;
use crate::frame::{self, Codec, FRAME_HEADER_LEN, FrameHeader, bytes_at};
use crate::parallel::{Asked, in_order};
use crate::reader::TraceReader;
use crate::segment::RawFrame;

/// The settings for making segments smaller.
pub(crate) struct Recompression<'a> {
    threads: usize,
    asked: Asked<'a>,
    /// The dictionary that frames may be compressed with, and the place where it is found again.
    dictionary: Option<(Arc<Dictionary>, &'a Dictionaries)>,
    /// One for each thread, when it is needed first.
    compressors: Mutex<Vec<Compressor<'static>>>,
}

impl<'a> Recompression<'a> {
    pub(crate) fn new(
        threads: usize,
        asked: Asked<'a>,
        dictionary: Option<(Arc<Dictionary>, &'a Dictionaries)>,
    ) -> Recompression<'a> {
        Recompression {
            threads,
            asked,
            dictionary,
            compressors: Mutex::default(),
        }
    }

    /// Writes the segment that begins with `first` anew.
    pub(crate) fn segment(
        &self,
        reader: &TraceReader,
        first: EventNumber,
        out: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let work = |frame, path: &Path| self.frame(frame, path);
        rewrite(reader, first, self.threads, self.asked, work, out)
    }

    /// One frame.
    fn frame(&self, old: RawFrame, path: &Path) -> Result<Vec<u8>> {
        let with_dictionary = match &self.dictionary {
            Some((dictionary, _)) if old.header.codec != Codec::Zeros => {
                let stored = self.with_dictionary(dictionary, &old.raw);
                let stored = stored.map_err(|e| Error::io(path, "compressing", e))?;
                vec![(Codec::Dictionary, stored)]
            }
            _ => Vec::new(),
        };
        let new = frame::recompress(&old.header, old.stored, &old.raw, with_dictionary);
        let new = new.map_err(|e| e.at(path, 0))?;
        let header = FrameHeader::decode(&bytes_at(&new, 0)).map_err(|e| e.at(path, 0))?;
        let mut raw = vec![0; header.raw_len as usize];
        let dictionaries = self.dictionary.as_ref().map(|(_, dictionaries)| *dictionaries);
        let comes_back = header.unpack_with(&new[FRAME_HEADER_LEN..], &mut raw, dictionaries)?;
        match comes_back.is_ok() && raw == old.raw {
            true => Ok(new),
            false => Err(Error::damaged(
                path,
                0,
                "what was compressed anew does not come back",
            )),
        }
    }

    fn with_dictionary(&self, dictionary: &Dictionary, raw: &[u8]) -> std::io::Result<Vec<u8>> {
        let compressors = || self.compressors.lock().unwrap_or_else(PoisonError::into_inner);
        let free = compressors().pop();
        let mut compressor = match free {
            Some(compressor) => compressor,
            None => dictionary.compressor()?,
        };
        let stored = dictionary.compress(&mut compressor, raw);
        compressors().push(compressor);
        stored
    }
}

/// Writes the segment that begins with `first` as it is, but for what names a dictionary: that is compressed without.
pub(crate) fn without_dictionary(
    reader: &TraceReader,
    first: EventNumber,
    asked: Asked<'_>,
    out: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let alone = Recompression::new(1, asked, None);
    let work = |frame: RawFrame, path: &Path| match frame.header.codec {
        Codec::Dictionary => alone.frame(frame, path),
        _ => Ok([&frame.header.encode()[..], &frame.stored].concat()),
    };
    rewrite(reader, first, 1, asked, work, out)
}

/// Writes the segment that begins with `first`, with what `work` makes of each frame. The torn end of a killed recording does not count, and
/// is left out.
fn rewrite(
    reader: &TraceReader,
    first: EventNumber,
    threads: usize,
    asked: Asked<'_>,
    work: impl Fn(RawFrame, &Path) -> Result<Vec<u8>> + Sync,
    mut out: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let plan = reader.plan(first);
    let Some(mut stream) = cursor::open_segment(&plan, 0)? else {
        return Ok(());
    };
    out(&stream.header()?)?;
    let path = stream.place().0.to_owned();
    let frames = std::iter::from_fn(|| {
        let frame = stream.next_frame().transpose()?;
        Some(frame.map(|frame| {
            let weight = 2 * frame.raw.len() as u64;
            (frame, weight)
        }))
    });
    let work = |frame| match asked() {
        true => Err(Error::Interrupted),
        false => work(frame, &path),
    };
    in_order(frames, threads, work, |frame: Vec<u8>| out(&frame))
}

/// The payloads of a trace's frames, one after the other, up to `most` bytes.
pub(crate) fn payloads(reader: &TraceReader, most: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for first in reader.segments() {
        let plan = reader.plan(*first);
        let Some(mut stream) = cursor::open_segment(&plan, 0)? else {
            continue;
        };
        while let Some(frame) = stream.next_frame()? {
            if frame.header.codec == Codec::Zeros {
                continue;
            }
            let room = most - all.len();
            all.extend_from_slice(&frame.raw[..frame.raw.len().min(room)]);
            if all.len() == most {
                return Ok(all);
            }
        }
    }
    Ok(all)
}

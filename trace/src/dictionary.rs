//! Dictionaries: bytes that the events of recordings of one test suite have in common, beside the packs that share them.
//!
//! Runs of one suite load the same libraries, read the same files and make the same calls. A *dictionary* is the payloads of frames of
//! one recording, one after the other; frames of other recordings (and of that one) are compressed as what differs from it
//! (Zstandard, RFC 8878, with a dictionary that is plain content).
//!
//! ```text
//! objects/<xxh3-128 of this file>.dict
//!
//! offset size
//!      0    8  magic "rr-dict\n"
//!      8    8  length of the dictionary, at most 16 MiB
//!     16       the dictionary, one frame of Zstandard
//!
//! payload of a frame with the codec 4
//!      0   16  name of the dictionary
//!     16       one frame of Zstandard
//! ```
//!
//! A dictionary is never changed. Its name is compared with its contents when it is read; a frame has its own checksum.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rr_tracee::FileId;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::DecoderDictionary;
use zstd::zstd_safe::CParameter;

use crate::copy;
use crate::dir::file_of;
use crate::error::{Error, Malformed, Result};

/// The longest dictionary.
pub(crate) const LONGEST: usize = 16 << 20;
/// The window must reach from the end of a frame's payload back to the beginning of the dictionary.
const WINDOW_BITS: u32 = 25;
/// Zstandard's level: higher ones take seconds to take in a dictionary.
const LEVEL: i32 = 12;
/// The level of comparisons: it need not find all.
const TRIAL_LEVEL: i32 = 3;
const TRIAL_TABLE_BITS: u32 = 22;
/// More dictionaries than this are not made in one directory: each trace is compared with all.
pub(crate) const MOST: usize = 8;

const MAGIC: [u8; 8] = *b"rr-dict\n";
pub(crate) const EXTENSION: &str = "dict";
const PREFIX_LEN: usize = 16;

/// A dictionary in memory.
pub(crate) struct Dictionary {
    pub(crate) id: FileId,
    content: Vec<u8>,
    decoder: DecoderDictionary<'static>,
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({})", self.id)
    }
}

impl Dictionary {
    fn new(id: FileId, content: Vec<u8>) -> Dictionary {
        Dictionary {
            id,
            decoder: DecoderDictionary::copy(&content),
            content,
        }
    }

    /// Makes a dictionary of this content: it, and its file.
    pub(crate) fn make(content: Vec<u8>) -> io::Result<(Dictionary, Vec<u8>)> {
        let mut file = MAGIC.to_vec();
        file.extend((content.len() as u64).to_le_bytes());
        file.extend(Compressor::new(LEVEL)?.compress(&content)?);
        Ok((Dictionary::new(copy::hash(&file), content), file))
    }

    /// A compressor that uses it, for one thread.
    pub(crate) fn compressor(&self) -> io::Result<Compressor<'static>> {
        self.compressor_of(LEVEL)
    }

    fn compressor_of(&self, level: i32) -> io::Result<Compressor<'static>> {
        let mut compressor = Compressor::with_dictionary(level, &self.content)?;
        compressor.set_parameter(CParameter::WindowLog(WINDOW_BITS))?;
        Ok(compressor)
    }

    /// About the length of a sample when it is compressed with it.
    pub(crate) fn length_of(&self, sample: &[u8]) -> io::Result<usize> {
        let mut compressor = self.compressor_of(TRIAL_LEVEL)?;
        // The tables of this level would have forgotten most of a long dictionary at its end.
        for parameter in [
            CParameter::HashLog(TRIAL_TABLE_BITS),
            CParameter::ChainLog(TRIAL_TABLE_BITS),
        ] {
            compressor.set_parameter(parameter)?;
        }
        Ok(compressor.compress(sample)?.len())
    }

    /// The payload of a frame as it is stored.
    pub(crate) fn compress(&self, with: &mut Compressor<'static>, raw: &[u8]) -> io::Result<Vec<u8>> {
        let mut stored = self.id.0.to_le_bytes().to_vec();
        stored.extend(with.compress(raw)?);
        Ok(stored)
    }

    /// Fills `raw`.
    fn decompress(&self, stored: &[u8], raw: &mut [u8]) -> Result<(), Malformed> {
        let fails = |e: io::Error| Malformed::new(format!("zstd: {e}"));
        let mut decoder = Decompressor::with_prepared_dictionary(&self.decoder).map_err(fails)?;
        let len = raw.len();
        match decoder.decompress_to_buffer(stored, raw).map_err(fails)? {
            n if n == len => Ok(()),
            n => Err(Malformed::new(format!("{n} bytes, {len} were announced"))),
        }
    }
}

/// Pieces from all parts of a dictionary's content, to compare it with others.
pub(crate) fn sample(content: &[u8]) -> Vec<u8> {
    const PIECE: usize = 32 << 10;
    const PIECES: usize = 32;
    let distance = (content.len() / PIECES).max(PIECE);
    let pieces = content
        .chunks(distance)
        .map(|part| &part[..part.len().min(PIECE)]);
    pieces.collect::<Vec<_>>().concat()
}

/// About the length of a sample when it is compressed without a dictionary.
pub(crate) fn length_alone(sample: &[u8]) -> io::Result<usize> {
    Ok(Compressor::new(TRIAL_LEVEL)?.compress(sample)?.len())
}

/// The dictionaries of a directory of packs.
#[derive(Debug)]
pub(crate) struct Dictionaries {
    /// The directory of what packs share.
    objects: PathBuf,
    loaded: Mutex<HashMap<FileId, Arc<Dictionary>>>,
}

impl Dictionaries {
    pub(crate) fn new(objects: &Path) -> Dictionaries {
        Dictionaries {
            objects: objects.to_owned(),
            loaded: Mutex::default(),
        }
    }

    /// The path of one.
    pub(crate) fn path_of(&self, id: FileId) -> PathBuf {
        self.objects.join(format!("{id}.{EXTENSION}"))
    }

    /// The dictionaries that are there, ascending by name.
    pub(crate) fn all(&self) -> Vec<FileId> {
        let entries = std::fs::read_dir(&self.objects).into_iter().flatten().flatten();
        let id = |path: PathBuf| {
            let id = file_of(path.file_stem()?.to_str()?)?;
            (path.extension()? == EXTENSION).then_some(id)
        };
        let mut all: Vec<FileId> = entries.filter_map(|entry| id(entry.path())).collect();
        all.sort_unstable();
        all
    }

    /// Reads one.
    pub(crate) fn get(&self, id: FileId) -> Result<Arc<Dictionary>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded.get(&id) {
            return Ok(Arc::clone(known));
        }
        let path = self.path_of(id);
        let dictionary = Arc::new(read(&path, id)?);
        loaded.insert(id, Arc::clone(&dictionary));
        Ok(dictionary)
    }

    /// Fills `raw` with the payload of a frame that is stored so.
    pub(crate) fn unpack(&self, stored: &[u8], raw: &mut [u8]) -> Result<Result<(), Malformed>> {
        let Some((id, stored)) = stored.split_first_chunk() else {
            return Ok(Err(Malformed::new("no dictionary is named")));
        };
        let dictionary = self.get(FileId(u128::from_le_bytes(*id)))?;
        Ok(dictionary.decompress(stored, raw))
    }
}

fn read(path: &Path, id: FileId) -> Result<Dictionary> {
    let failed = |e| Error::io(path, "reading what packs of this directory share", e);
    let mut file = Vec::new();
    let most = (PREFIX_LEN + 2 * LONGEST) as u64;
    File::open(path)
        .and_then(|from| from.take(most).read_to_end(&mut file))
        .map_err(failed)?;
    if copy::hash(&file) != id {
        return Err(Error::damaged(path, 0, "the contents do not match the name"));
    }
    let parts = file.split_first_chunk().filter(|(magic, _)| **magic == MAGIC);
    let parts = parts.and_then(|(_, rest)| rest.split_first_chunk());
    let (len, stored) = parts.ok_or_else(|| Error::damaged(path, 0, "it is no dictionary"))?;
    let len = u64::from_le_bytes(*len);
    if len > LONGEST as u64 {
        return Err(Error::damaged(path, 8, format!("a dictionary of {len} bytes")));
    }
    let content = zstd::bulk::decompress(stored, len as usize);
    let content = content.map_err(|e| Error::damaged(path, PREFIX_LEN as u64, format!("zstd: {e}")))?;
    Ok(Dictionary::new(id, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_events::noise;

    #[test]
    fn what_resembles_a_dictionary_is_told_from_what_does_not() {
        // Long, and like a program's: pieces that are there again, among others.
        let like = |seed: u64| {
            let parts = (0..6000).map(|n| [noise(n, 900), noise(seed * 10_000 + n, 100)].concat());
            parts.collect::<Vec<_>>().concat()
        };
        let (dictionary, _) = Dictionary::make(like(1)).unwrap();
        let sample_2 = sample(&like(2));
        let (alone, with) = (
            length_alone(&sample_2).unwrap(),
            dictionary.length_of(&sample_2).unwrap(),
        );
        assert!(4 * with < 3 * alone, "{with} of {alone}");
        let other = sample(&noise(7, 6_000_000));
        let (alone, with) = (
            length_alone(&other).unwrap(),
            dictionary.length_of(&other).unwrap(),
        );
        assert!(4 * with > 3 * alone, "{with} of {alone}");
        assert!(sample(b"short") == b"short" && sample(b"").is_empty());
    }

    #[test]
    fn what_a_dictionary_has_takes_next_to_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let dictionaries = Dictionaries::new(tmp.path());
        let content = noise(1, 9 << 20);
        let (dictionary, file) = Dictionary::make(content.clone()).unwrap();
        std::fs::write(dictionaries.path_of(dictionary.id), &file).unwrap();
        std::fs::write(tmp.path().join("other"), b"").unwrap();
        assert_eq!(dictionaries.all(), [dictionary.id]);
        // From the beginning of the dictionary, and something new.
        let raw = [&content[100..5 << 20], &noise(2, 1000)].concat();
        let mut compressor = dictionary.compressor().unwrap();
        for _ in 0..2 {
            let stored = dictionary.compress(&mut compressor, &raw).unwrap();
            assert!(stored.len() < 2000, "{}", stored.len());
            let mut again = vec![0; raw.len()];
            dictionaries.unpack(&stored, &mut again).unwrap().unwrap();
            assert!(again == raw);
            assert!(dictionaries.unpack(&stored, &mut again[1..]).unwrap().is_err());
            assert!(dictionaries.unpack(&stored[..15], &mut again).unwrap().is_err());
            let other = [&[9; 16], &stored[16..]].concat();
            assert!(dictionaries.unpack(&other, &mut again).is_err());
        }
        // A wrong byte anywhere is noticed when it is read first.
        for at in [0, 9, 20, file.len() - 1] {
            let mut wrong = file.clone();
            wrong[at] ^= 1;
            std::fs::write(dictionaries.path_of(dictionary.id), &wrong).unwrap();
            assert!(Dictionaries::new(tmp.path()).get(dictionary.id).is_err(), "{at}");
        }
    }
}

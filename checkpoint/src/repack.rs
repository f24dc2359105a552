//! The checkpoints of a trace written anew, for a pack: their blocks compressed as hard as is worth the time, each once.
//!
//! ```text
//! blocks of all files ─► compressed, by several threads ─► a scratch file ─► new files, of those checkpoints that stay
//! ```
//!
//! A block goes into the file of the first checkpoint that stays and needs it; so nothing is left of a checkpoint that does not
//! stay but what later ones need. Keeps: each block was decompressed and compared with the pages of the one that it stands for.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_trace::packing::MemberWriter;
use rr_trace::parallel::{Asked, in_order};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::block::BlockRef;
use crate::codec;
use crate::compression::{Compression, compress_hard};
use crate::error::{Error, Result};
use crate::file::{Contents, HEADER_LEN, Header, pack_section_with, read_block};
use crate::files::Files;
use crate::retention::next_to_go;

/// Brotli quality of sections.
const SECTION_QUALITY: i32 = 9;

/// A block as it will be stored.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Its offset in the scratch file.
    scratch: u64,
    length: u32,
    pages: u16,
    compression: Compression,
    checksum: u64,
}

/// A checkpoint that can be used.
#[derive(Debug)]
struct Member {
    time_ns: u64,
    /// Bytes of its file that are not blocks, as it is now.
    frame: u64,
    /// For each block of its index: which one it is of all.
    needs: Vec<u32>,
}

/// All blocks, compressed, each once.
#[derive(Debug)]
struct Blocks {
    scratch: File,
    /// Bytes in it.
    end: u64,
    all: Vec<Block>,
    /// The blocks of the files as they are now, by event and offset.
    by_place: HashMap<(u64, u64), u32>,
    by_content: HashMap<u128, u32>,
}

impl Blocks {
    fn add(&mut self, made: &Compressed) -> Result<()> {
        let number = match self.by_content.get(&made.hash) {
            Some(number) => *number,
            None => {
                let written = self.scratch.write_all_at(&made.bytes, self.end);
                written.map_err(Error::io("compressing blocks", Path::new(SCRATCH)))?;
                let number = self.all.len() as u32;
                self.all.push(Block {
                    scratch: self.end,
                    ..made.block
                });
                self.end += made.bytes.len() as u64;
                self.by_content.insert(made.hash, number);
                number
            }
        };
        self.by_place.insert(made.place, number);
        Ok(())
    }

    fn read(&self, block: &Block) -> Result<Vec<u8>> {
        let mut bytes = vec![0; block.length as usize];
        let read = self.scratch.read_exact_at(&mut bytes, block.scratch);
        read.map_err(Error::io("reading compressed blocks", Path::new(SCRATCH)))?;
        Ok(bytes)
    }
}

/// The name of the scratch file in messages; the file itself has none.
const SCRATCH: &str = "(scratch file)";

/// The checkpoints of a trace, with their blocks compressed.
#[derive(Debug)]
pub struct Repack {
    files: Files,
    uuid: [u8; 16],
    blocks: Blocks,
    members: BTreeMap<EventNumber, Member>,
    unusable: Vec<(EventNumber, Error)>,
}

/// A block on its way: what it is, and its pages.
struct Compressed {
    /// The place of the block now: event and offset.
    place: (u64, u64),
    block: Block,
    bytes: Vec<u8>,
    /// Of the pages.
    hash: u128,
}

impl Repack {
    /// Reads all checkpoints of a trace, and puts their blocks into `scratch`, compressed by `threads` threads.
    pub fn read(reader: &TraceReader, scratch: File, threads: usize, asked: Asked<'_>) -> Result<Repack> {
        let mut repack = Repack {
            files: reader.into(),
            uuid: reader.header().uuid,
            blocks: Blocks {
                scratch,
                end: 0,
                all: Vec::new(),
                by_place: HashMap::new(),
                by_content: HashMap::new(),
            },
            members: BTreeMap::new(),
            unusable: Vec::new(),
        };
        for event in reader.checkpoints()? {
            if let Err(e) = repack.read_one(event, threads, asked) {
                match e {
                    e if e.is_missing() => repack.unusable.push((event, e)),
                    Error::Damaged { .. } | Error::OtherTrace { .. } | Error::OtherEvent { .. } => {
                        repack.unusable.push((event, e));
                    }
                    e => return Err(e),
                }
            }
        }
        Ok(repack)
    }

    fn read_one(&mut self, event: EventNumber, threads: usize, asked: Asked<'_>) -> Result<()> {
        let read = self.contents(event)?;
        let place = |block: &BlockRef| (block.event, block.offset);
        let all = read.index.blocks.iter();
        let new: Vec<BlockRef> = all
            .filter(|block| !self.blocks.by_place.contains_key(&place(block)))
            .copied()
            .collect();
        let mut file = None;
        let files = &self.files;
        let pieces = new.into_iter().map(|block| {
            let of_event = EventNumber(block.event);
            let member = match &file {
                Some((of, member)) if *of == of_event => Clone::clone(member),
                _ => {
                    let opened = files.open_referred(of_event)?;
                    let header = Header::read(&opened, opened.path())?;
                    header.must_be_of(opened.path(), &read.header.uuid, of_event)?;
                    file = Some((of_event, opened.clone()));
                    opened
                }
            };
            Ok(((block, member), 2 * block.raw_len() as u64))
        });
        let work = |(block, member): (BlockRef, rr_trace::Member)| {
            if asked() {
                return Err(rr_trace::Error::Interrupted.into());
            }
            let (mut packed, mut pages) = (Vec::new(), Vec::new());
            read_block(&member, member.path(), &block, &mut packed, &mut pages)?;
            let bytes = compress_hard(&pages, packed.len());
            let (compression, bytes) = match bytes {
                Some(bytes) => (Compression::Brotli, bytes),
                None => (block.compression, packed),
            };
            let compressed = Compressed {
                place: place(&block),
                hash: xxh3_128(&pages),
                block: Block {
                    scratch: 0,
                    length: bytes.len() as u32,
                    pages: block.pages,
                    compression,
                    checksum: xxh3_64(&bytes),
                },
                bytes,
            };
            let mut again = Vec::new();
            let undone = compression.decompress(&compressed.bytes, pages.len(), &mut again);
            match undone.is_ok() && again == pages {
                true => Ok(compressed),
                false => Err(Error::Writer(
                    "a block that was compressed does not come back".into(),
                )),
            }
        };
        let blocks = &mut self.blocks;
        in_order(pieces, threads, work, |made: Compressed| blocks.add(&made))?;
        let missing = || Error::Writer("a block was not compressed".into());
        let needs = read
            .index
            .blocks
            .iter()
            .map(|block| self.blocks.by_place.get(&place(block)).copied());
        let sections = read.header.sections.iter().map(|s| s.stored);
        let member = Member {
            time_ns: read.image.time_ns,
            frame: HEADER_LEN as u64 + sections.sum::<u64>(),
            needs: needs.collect::<Option<_>>().ok_or_else(missing)?,
        };
        self.members.insert(event, member);
        Ok(())
    }

    fn contents(&self, event: EventNumber) -> Result<Contents> {
        let member = self.files.open(event)?;
        let contents = Contents::read(&member, member.path())?;
        contents.header.must_be_of(member.path(), &self.uuid, event)?;
        Ok(contents)
    }

    /// The checkpoints that cannot be used, with the errors: they are left out.
    pub fn unusable(&self) -> &[(EventNumber, Error)] {
        &self.unusable
    }

    /// The checkpoints that stay, ascending.
    pub fn events(&self) -> Vec<EventNumber> {
        self.members.keys().copied().collect()
    }

    /// About how many bytes their files have together.
    pub fn bytes(&self) -> u64 {
        let frames: u64 = self.members.values().map(|member| member.frame).sum();
        let mut needed = vec![false; self.blocks.all.len()];
        let needs = self.members.values().flat_map(|member| &member.needs);
        needs.for_each(|n| needed[*n as usize] = true);
        let blocks = self.blocks.all.iter().zip(needed).filter(|(_, needed)| *needed);
        frames + blocks.map(|(block, _)| u64::from(block.length)).sum::<u64>()
    }

    /// Drops the one whose absence is missed least ([`crate::retention`]), but none of `kept`; says which. `None`: there is none any more
    /// that may go.
    pub fn drop_least_missed(&mut self, kept: &[EventNumber]) -> Option<EventNumber> {
        let events = self.events();
        let times: Vec<u64> = self.members.values().map(|member| member.time_ns).collect();
        let may_go = |n: usize| !kept.contains(&events[n]);
        let last = || events.len().checked_sub(1).filter(|n| may_go(*n));
        let event = events[next_to_go(&times, may_go).or_else(last)?];
        self.members.remove(&event);
        Some(event)
    }

    /// Writes all that stay, in order: `write` is called for each, with what writes its file.
    pub fn write(
        &self,
        mut write: impl FnMut(
            EventNumber,
            &dyn Fn(&mut MemberWriter<'_>) -> Result<Vec<(u32, u64)>>,
        ) -> Result<Vec<(u32, u64)>>,
    ) -> Result<()> {
        // In whose file each block is, and where.
        let mut places: Vec<Option<(EventNumber, u64)>> = vec![None; self.blocks.all.len()];
        for event in self.members.keys() {
            let new = write(*event, &|out: &mut MemberWriter<'_>| {
                self.write_one(*event, &places, out)
            })?;
            for (n, offset) in new {
                places[n as usize] = Some((*event, offset));
            }
        }
        Ok(())
    }

    /// Writes one, and says which blocks are in it, and where.
    fn write_one(
        &self,
        event: EventNumber,
        places: &[Option<(EventNumber, u64)>],
        out: &mut MemberWriter<'_>,
    ) -> Result<Vec<(u32, u64)>> {
        let unfit = |why: String| Error::Dropped { event: event.0, why };
        let member = self
            .members
            .get(&event)
            .ok_or_else(|| unfit("it is gone".into()))?;
        let Contents {
            header,
            image,
            mut index,
            stats,
        } = self.contents(event)?;
        out.append(&[0; HEADER_LEN])?;
        let mut own: HashMap<u32, u64> = HashMap::new();
        for (reference, n) in index.blocks.iter_mut().zip(&member.needs) {
            let block = &self.blocks.all[*n as usize];
            let (at, offset) = match (places[*n as usize], own.get(n)) {
                (Some(place), _) => place,
                (None, Some(offset)) => (event, *offset),
                (None, None) => {
                    let offset = out.len();
                    out.append(&self.blocks.read(block)?)?;
                    own.insert(*n, offset);
                    (event, offset)
                }
            };
            *reference = BlockRef {
                event: at.0,
                offset,
                length: block.length,
                pages: block.pages,
                compression: block.compression,
                checksum: block.checksum,
            };
        }
        if let Some(why) = index.fault(&image, HEADER_LEN as u64..out.len()) {
            return Err(unfit(format!("pages and image do not fit together: {why}")));
        }
        let mut sections = header.sections;
        let raws = [
            codec::encode_index(&index),
            codec::encode_image(&image),
            codec::encode_stats(&stats),
        ];
        for (section, raw) in sections.iter_mut().zip(raws) {
            let raw = raw.map_err(unfit)?;
            let (bytes, placed) = pack_section_with(raw.clone(), out.len(), SECTION_QUALITY);
            let is_same = match placed.stored == placed.raw {
                true => bytes == raw,
                false => rr_trace::compress::decompress(&bytes, raw.len()).is_ok_and(|again| again == raw),
            };
            if !is_same {
                return Err(unfit("what was compressed anew does not come back".into()));
            }
            out.append(&bytes)?;
            *section = placed;
        }
        let header = Header {
            file_len: out.len(),
            sections,
            ..header
        };
        out.write_at(0, &header.encode())?;
        Ok(own.into_iter().collect())
    }
}

/// A file without a name in a directory, for what is compressed.
pub fn scratch_in(dir: &Path) -> Result<File> {
    let path = dir.join(format!(".rr-scratch-{}", std::process::id()));
    let make = || -> io::Result<File> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    };
    make().map_err(Error::io("making a scratch file", &path))
}

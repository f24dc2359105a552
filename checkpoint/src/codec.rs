//! The sections of a checkpoint file as Cap'n Proto messages (`schema/checkpoint.capnp`).
//!
//! Decoding checks: mappings are whole pages in ascending order, ids are ascending, every task has its address space. Faults
//! are texts; the reader of the file adds the place.

use std::collections::BTreeSet;

use capnp::message::{HeapAllocator, ReaderOptions, TypedReader};
use capnp::serialize_packed;
use rr_schema::checkpoint_capnp as schema;
use rr_schema::common_capnp as common;
use rr_trace::convert;
use rr_trace::event::EventNumber;
use rr_tracee::ids::PAGE;
use rr_tracee::{AddressSpace, Backing, ExtendedState, Mapping, ObjectId, Prot, SpaceId, Tid};

use crate::block::{BlockRef, PAGE_BYTES};
use crate::compression::Compression;
use crate::image::{ObjectImage, SessionImage, SpaceImage, TaskImage};
use crate::index::{PageIndex, PageTarget, Run};
use crate::stats::{CheckpointStats, Maker};

/// A fault of a section.
pub(crate) type Fault = String;

/// The most that a decoded message may take, in words of 8 bytes (1 GiB).
const MAX_WORDS: usize = 1 << 27;

/// The number of words that `packed_len` bytes may unpack to. Eight zero bytes can stand for 256 words, but only long runs of
/// zeros do that, and only extended states have them.
fn word_limit(packed_len: usize, words_per_byte: usize) -> usize {
    packed_len
        .saturating_mul(words_per_byte)
        .saturating_add(8192)
        .min(MAX_WORDS)
}

fn pack(message: &capnp::message::Builder<HeapAllocator>) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    serialize_packed::write_message(&mut out, message).map_err(|e| e.to_string())?;
    Ok(out)
}

fn unpack<T: capnp::traits::Owned>(
    mut bytes: &[u8],
    words_per_byte: usize,
) -> Result<TypedReader<capnp::serialize::OwnedSegments, T>, Fault> {
    let limit = word_limit(bytes.len(), words_per_byte);
    let options = ReaderOptions {
        traversal_limit_in_words: Some(limit),
        nesting_limit: 16,
    };
    let message = serialize_packed::read_message(&mut bytes, options).map_err(text)?;
    if !bytes.is_empty() {
        return Err("bytes after the end of the message".into());
    }
    Ok(TypedReader::new(message))
}

fn text(e: impl std::fmt::Display) -> Fault {
    e.to_string()
}

/// The packed message of an image.
pub(crate) fn encode_image(image: &SessionImage) -> Result<Vec<u8>, Fault> {
    let mut message = capnp::message::Builder::new_default();
    let mut root = message.init_root::<schema::image::Builder<'_>>();
    root.set_event(image.event.0);
    root.set_time_ns(image.time_ns);
    let mut spaces = root.reborrow().init_spaces(image.spaces.len() as u32);
    for (i, space) in image.spaces.iter().enumerate() {
        let mut to = spaces.reborrow().get(i as u32);
        to.set_id(space.id.0);
        let mut mappings = to.init_mappings(space.space.iter().count() as u32);
        for (j, mapping) in space.space.iter().enumerate() {
            convert::write_mapping(mappings.reborrow().get(j as u32), mapping);
        }
    }
    let mut tasks = root.reborrow().init_tasks(image.tasks.len() as u32);
    for (i, task) in image.tasks.iter().enumerate() {
        let mut to = tasks.reborrow().get(i as u32);
        to.set_tid(task.tid.0);
        to.set_tgid(task.tgid.0);
        to.set_space(task.space.0);
        to.set_in_syscall(task.in_syscall);
        to.set_exe(task.exe.as_str());
        convert::write_registers(to.reborrow().init_regs(), &task.regs);
        to.set_xstate(&task.xstate.0);
    }
    let mut objects = root.init_objects(image.objects.len() as u32);
    for (i, object) in image.objects.iter().enumerate() {
        let mut to = objects.reborrow().get(i as u32);
        to.set_id(object.id.0);
        to.set_size(object.size);
        if let Some(file) = object.content {
            let (high, low) = convert::file_halves(file);
            to.set_is_file(true);
            to.set_hash_high(high);
            to.set_hash_low(low);
        }
    }
    pack(&message)
}

/// The image of a packed message.
pub(crate) fn decode_image(bytes: &[u8]) -> Result<SessionImage, Fault> {
    let message = unpack::<schema::image::Owned>(bytes, 128)?;
    let root = message.get().map_err(text)?;
    let mut spaces: Vec<SpaceImage> = Vec::new();
    for from in root.get_spaces().map_err(text)? {
        let id = SpaceId(from.get_id());
        if spaces.last().is_some_and(|s| s.id >= id) {
            return Err(format!("address space {id} is out of order"));
        }
        let mut mappings: Vec<Mapping> = Vec::new();
        for from in from.get_mappings().map_err(text)? {
            let mapping = read_mapping(from)?;
            if mappings.last().is_some_and(|m| m.range.end > mapping.range.start) {
                return Err(format!(
                    "mapping {} of address space {id} is out of order",
                    mapping.range
                ));
            }
            mappings.push(mapping);
        }
        spaces.push(SpaceImage {
            id,
            space: AddressSpace::from_mappings(mappings),
        });
    }
    let mut tasks: Vec<TaskImage> = Vec::new();
    for from in root.get_tasks().map_err(text)? {
        let tid = Tid(from.get_tid());
        if tid.0 <= 0 || from.get_tgid() <= 0 || tasks.last().is_some_and(|t| t.tid >= tid) {
            return Err(format!("task {tid} is out of order or impossible"));
        }
        let space = SpaceId(from.get_space());
        if spaces.binary_search_by_key(&space, |s| s.id).is_err() {
            return Err(format!("task {tid} has no address space"));
        }
        tasks.push(TaskImage {
            tid,
            tgid: Tid(from.get_tgid()),
            space,
            exe: from.get_exe().map_err(text)?.to_string().map_err(text)?,
            in_syscall: from.get_in_syscall(),
            regs: convert::read_registers(from.get_regs().map_err(text)?),
            xstate: ExtendedState(from.get_xstate().map_err(text)?.to_vec()),
        });
    }
    let mut objects: Vec<ObjectImage> = Vec::new();
    for from in root.get_objects().map_err(text)? {
        let object = ObjectImage {
            id: ObjectId(from.get_id()),
            size: from.get_size(),
            content: from
                .get_is_file()
                .then(|| convert::file_from_halves(from.get_hash_high(), from.get_hash_low())),
        };
        if object.size > i64::MAX as u64 || objects.last().is_some_and(|o| o.id >= object.id) {
            return Err(format!(
                "shared memory object {} is out of order or impossible",
                object.id.0
            ));
        }
        objects.push(object);
    }
    check_files(&spaces, &objects)?;
    Ok(SessionImage {
        event: EventNumber(root.get_event()),
        time_ns: root.get_time_ns(),
        spaces,
        tasks,
        objects,
    })
}

/// An error if an object that is a file of the trace could be written to: replay maps the file itself.
fn check_files(spaces: &[SpaceImage], objects: &[ObjectImage]) -> Result<(), Fault> {
    let files: BTreeSet<ObjectId> = objects
        .iter()
        .filter(|o| o.content.is_some())
        .map(|o| o.id)
        .collect();
    for space in spaces {
        let mut views = space.space.objects();
        if let Some((id, _, mapping)) = views.find(|(id, _, m)| m.prot.has(Prot::WRITE) && files.contains(id))
        {
            return Err(format!(
                "shared memory object {} is a file of the trace and is writable at {}",
                id.0, mapping.range
            ));
        }
    }
    Ok(())
}

/// A mapping, with what the conversion does not promise: it is not empty, and its backing has a place for
/// all of it.
fn read_mapping(from: common::mapping::Reader<'_>) -> Result<Mapping, Fault> {
    let mapping = convert::read_mapping(from).map_err(text)?;
    if mapping.range.is_empty() {
        return Err(format!("mapping at {} is empty", mapping.range.start));
    }
    if let Backing::File { offset, .. }
    | Backing::Shared { offset, .. }
    | Backing::CopyOnWrite { offset, .. } = mapping.backing
    {
        let end = offset.checked_add(mapping.range.len());
        if !offset.is_multiple_of(PAGE) || end.is_none() {
            return Err(format!(
                "mapping {} has an impossible offset {offset:#x}",
                mapping.range
            ));
        }
    }
    Ok(mapping)
}

/// The packed message of a page index.
pub(crate) fn encode_index(index: &PageIndex) -> Result<Vec<u8>, Fault> {
    let mut message = capnp::message::Builder::new_default();
    let mut root = message.init_root::<schema::page_index::Builder<'_>>();
    let mut blocks = root.reborrow().init_blocks(index.blocks.len() as u32);
    for (i, block) in index.blocks.iter().enumerate() {
        let mut to = blocks.reborrow().get(i as u32);
        to.set_event(block.event);
        to.set_offset(block.offset);
        to.set_length(block.length);
        to.set_pages(block.pages);
        to.set_checksum(block.checksum);
        to.set_codec(block.compression.number());
    }
    let mut targets = root.init_targets(index.targets.len() as u32);
    for (i, (target, pages)) in index.targets.iter().enumerate() {
        let mut to = targets.reborrow().get(i as u32);
        match target {
            PageTarget::Space(id) => to.set_space(id.0),
            PageTarget::Object(id) => to.set_object(id.0),
        }
        let mut runs = to.init_runs(pages.len() as u32);
        let mut end = 0;
        for (j, run) in pages.iter().enumerate() {
            let mut to = runs.reborrow().get(j as u32);
            to.set_gap(run.page - end);
            to.set_count(run.count);
            to.set_block(run.block);
            to.set_slot(run.slot);
            end = run.page + u64::from(run.count);
        }
    }
    pack(&message)
}

/// The page index of a packed message; whether it can be followed is not checked here
/// ([`PageIndex::fault`]).
pub(crate) fn decode_index(bytes: &[u8]) -> Result<PageIndex, Fault> {
    let message = unpack::<schema::page_index::Owned>(bytes, 4)?;
    let root = message.get().map_err(text)?;
    let mut index = PageIndex::default();
    for from in root.get_blocks().map_err(text)? {
        let (length, pages) = (from.get_length(), from.get_pages());
        let is_whole = length as usize == usize::from(pages) * PAGE_BYTES;
        let codec = from.get_codec();
        let compression = Compression::of_number(codec, is_whole)
            .ok_or_else(|| format!("block with codec {codec}, which this version does not know"))?;
        index.blocks.push(BlockRef {
            event: from.get_event(),
            offset: from.get_offset(),
            length,
            pages,
            compression,
            checksum: from.get_checksum(),
        });
    }
    for from in root.get_targets().map_err(text)? {
        let target = match from.which().map_err(text)? {
            schema::target::Which::Space(id) => PageTarget::Space(SpaceId(id)),
            schema::target::Which::Object(id) => PageTarget::Object(ObjectId(id)),
        };
        let mut runs = Vec::new();
        let mut end = 0u64;
        for from in from.get_runs().map_err(text)? {
            let too_far = || format!("{target}: page run beyond the end of memory");
            let page = end.checked_add(from.get_gap()).ok_or_else(too_far)?;
            let run = Run {
                page,
                count: from.get_count(),
                block: from.get_block(),
                slot: from.get_slot(),
            };
            end = page.checked_add(u64::from(run.count)).ok_or_else(too_far)?;
            runs.push(run);
        }
        if index.targets.insert(target, runs).is_some() {
            return Err(format!("{target} is there twice"));
        }
    }
    Ok(index)
}

/// The packed message of the statistics.
pub(crate) fn encode_stats(stats: &CheckpointStats) -> Result<Vec<u8>, Fault> {
    let mut message = capnp::message::Builder::new_default();
    let mut root = message.init_root::<schema::statistics::Builder<'_>>();
    root.set_pause_us(stats.pause_us);
    root.set_pages_scanned(stats.pages_scanned);
    root.set_pages_zero(stats.pages_zero);
    root.set_pages_referenced(stats.pages_referenced);
    root.set_pages_stored(stats.pages_stored);
    root.set_pages_unchanged(stats.pages_unchanged);
    root.set_write_ms(stats.write_ms);
    root.set_method(stats.method.as_str());
    root.set_spaces_in_place(stats.spaces_in_place);
    root.set_maker(match stats.maker {
        Maker::Unknown => schema::statistics::Maker::Unknown,
        Maker::Recorder => schema::statistics::Maker::Recorder,
        Maker::CreateCheckpoints => schema::statistics::Maker::CreateCheckpoints,
        Maker::Debugger => schema::statistics::Maker::Debugger,
    });
    pack(&message)
}

/// The statistics of a packed message; what stands elsewhere in the file is 0.
pub(crate) fn decode_stats(bytes: &[u8]) -> Result<CheckpointStats, Fault> {
    let message = unpack::<schema::statistics::Owned>(bytes, 128)?;
    let root = message.get().map_err(text)?;
    Ok(CheckpointStats {
        pause_us: root.get_pause_us(),
        pages_scanned: root.get_pages_scanned(),
        pages_zero: root.get_pages_zero(),
        pages_referenced: root.get_pages_referenced(),
        pages_stored: root.get_pages_stored(),
        pages_unchanged: root.get_pages_unchanged(),
        write_ms: root.get_write_ms(),
        method: root.get_method().map_err(text)?.to_string().map_err(text)?,
        spaces_in_place: root.get_spaces_in_place(),
        maker: match root.get_maker() {
            Ok(schema::statistics::Maker::Recorder) => Maker::Recorder,
            Ok(schema::statistics::Maker::CreateCheckpoints) => Maker::CreateCheckpoints,
            Ok(schema::statistics::Maker::Debugger) => Maker::Debugger,
            // One that a later version knows.
            Ok(schema::statistics::Maker::Unknown) | Err(_) => Maker::Unknown,
        },
        ..CheckpointStats::default()
    })
}

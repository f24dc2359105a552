//! Registering pages, filling them, and protecting them from writing.
//!
//! The pages are those of the address space whose faults an object handles, whoever makes the request.

use nix::errno::Errno;
use rr_trace::event::MemWrite;
use rr_tracee::ids::PAGE;
use rr_tracee::pagemap::{Method, Pagemap};
use rr_tracee::{AddrRange, Backing, Mapping, Prot, SpaceId, Tid, procfs};

use super::api::Mode;
use super::key::ObjectKey;
use super::regions::Region;
use crate::call::parameters::Answered;
use crate::memory::readable::read_as_program;
use crate::world::model::World;

/// The effects of a request, besides its result.
#[derive(Debug, Default)]
pub(crate) struct Effect {
    /// Changes of access rights in the address space of the object.
    pub rights: Vec<(AddrRange, Prot)>,
    pub writes: Vec<MemWrite>,
    /// The tasks that wait for pages of this range are woken.
    pub woken: Option<AddrRange>,
}

/// The new contents of missing pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filling {
    Zero,
    Copy {
        /// The task that has made the request, whose memory is copied.
        by: Tid,
        from: u64,
        /// The pages are protected from writing.
        is_protected: bool,
    },
}

/// The program's mappings in a range, all of which must be memory that can be registered.
fn mappings(world: &World, id: SpaceId, range: AddrRange) -> Answered<Vec<Mapping>> {
    let model = world.spaces.get(&id).map(|space| &space.model);
    let mut mappings = model.map(|model| model.within(range)).unwrap_or_default();
    mappings.retain(|mapping| mapping.backing != Backing::Rr);
    if mappings.is_empty() || mappings.iter().any(|m| m.backing != Backing::Anonymous) {
        return Err(Errno::EINVAL.into());
    }
    Ok(mappings)
}

/// Returns whether some pages of a range are huge ones, which cannot be protected one by one.
fn has_huge_pages(tid: Tid, range: AddrRange) -> Answered<bool> {
    let lines = procfs::program_maps(tid)?;
    let mut there = lines.iter().filter(|line| line.range.intersect(range).is_some());
    Ok(there.any(|line| line.inode != 0))
}

/// The parts of a range whose pages do not exist.
fn absent(world: &World, id: SpaceId, range: AddrRange) -> Answered<Vec<AddrRange>> {
    let leader = world.leader(id).ok_or(Errno::ESRCH)?;
    // The table, unlike the other method, lists pages that show the kernel's page of zeros: these exist.
    let pagemap = Pagemap::open_with(leader, Method::Table)?;
    let there = pagemap.populated(range)?;
    Ok(range.without(there.into_iter().map(|(range, _)| range)))
}

/// Returns whether the kernel lets an address space have so many more mappings: runs of pages with different rights are mappings of
/// their own.
fn has_room(world: &World, id: SpaceId, more: usize) -> bool {
    /// The kernel's default, `vm.max_map_count`.
    const MOST: usize = 65530;
    /// Mappings that the kernel does not join, and the program's own ones to come.
    const RESERVE: usize = 1024;
    let needed = RESERVE + more + world.spaces.get(&id).map_or(0, |space| space.model.count());
    // Nearly always: few.
    needed < MOST / 4 || {
        let most = std::fs::read_to_string("/proc/sys/vm/max_map_count");
        needed
            <= most
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(MOST)
    }
}

/// `UFFDIO_REGISTER`.
pub(crate) fn register(
    world: &mut World,
    id: SpaceId,
    key: ObjectKey,
    range: AddrRange,
    mode: Mode,
    effect: &mut Effect,
) -> Answered<()> {
    let mappings = mappings(world, id, range)?;
    let leader = world.leader(id).ok_or(Errno::ENOMEM)?;
    if has_huge_pages(leader, range)? {
        return Err(Errno::EINVAL.into());
    }
    let known = world.space_mut(id).userfaults.regions.within(range);
    if known.iter().any(|region| region.owner != key) {
        return Err(Errno::EBUSY.into());
    }
    let absent = match mode.has_missing() {
        true => {
            let parts = mappings.iter().map(|mapping| absent(world, id, mapping.range));
            parts.collect::<Answered<Vec<_>>>()?
        }
        false => vec![vec![]; mappings.len()],
    };
    if !has_room(world, id, 2 * absent.iter().map(Vec::len).sum::<usize>()) {
        return Err(Errno::ENOMEM.into());
    }
    for (mapping, absent) in mappings.into_iter().zip(absent) {
        let regions = &mut world.space_mut(id).userfaults.regions;
        let known = regions.within(mapping.range);
        let new = mapping.range.without(known.iter().map(|region| region.range));
        let new = new.into_iter().map(|range| (range, mapping.prot));
        let all: Vec<_> = known
            .iter()
            .map(|region| (region.range, region.prot))
            .chain(new)
            .collect();
        for (range, prot) in all {
            let owner = key;
            regions.register(Region {
                range,
                owner,
                mode,
                prot,
            });
        }
        for range in absent {
            regions.set_missing(range, true);
        }
    }
    effect.rights = world.space_mut(id).userfaults.regions.wanted(range);
    Ok(())
}

/// `UFFDIO_UNREGISTER`.
pub(crate) fn unregister(
    world: &mut World,
    id: SpaceId,
    key: ObjectKey,
    range: AddrRange,
    effect: &mut Effect,
) -> Answered<()> {
    mappings(world, id, range)?;
    let regions = &mut world.space_mut(id).userfaults.regions;
    if regions.within(range).iter().any(|region| region.owner != key) {
        return Err(Errno::EINVAL.into());
    }
    let gone = regions.unregister(range);
    effect.rights = gone.iter().map(|region| (region.range, region.prot)).collect();
    Ok(())
}

/// `UFFDIO_COPY`, `UFFDIO_ZEROPAGE`: fills missing pages up to the first that exists or cannot be filled. Returns the number of
/// bytes.
pub(crate) fn fill(
    world: &mut World,
    id: SpaceId,
    range: AddrRange,
    with: Filling,
    effect: &mut Effect,
) -> Answered<u64> {
    let regions = &world.space_mut(id).userfaults.regions;
    let region = regions.at(range.start).copied();
    let region = region.filter(|r| range.end <= r.range.end).ok_or(Errno::ENOENT)?;
    let is_protected = matches!(
        with,
        Filling::Copy {
            is_protected: true,
            ..
        }
    );
    if is_protected && !region.mode.has_protected() {
        return Err(Errno::EINVAL.into());
    }
    if !has_room(world, id, 2) {
        return Err(Errno::ENOMEM.into());
    }
    let regions = &world.space_mut(id).userfaults.regions;
    let absent = match region.mode.has_missing() {
        true => regions.missing_in(range),
        false => absent(world, id, range)?,
    };
    let mut free = match absent.first() {
        Some(first) if first.start == range.start => *first,
        _ => AddrRange::sized(range.start, 0),
    };
    if let Filling::Copy { by, from, .. } = with {
        let mut data = Vec::new();
        // The kernel reads each page before it finds that there is one already.
        for n in 0..free.len().div_ceil(PAGE).max(1) {
            match read_as_program(world, by, from.wrapping_add(n * PAGE), PAGE as usize) {
                Ok(page) => data.extend(page),
                Err(error) if n == 0 => return Err(error),
                Err(_) => {
                    free = AddrRange::sized(free.start, n * PAGE);
                    break;
                }
            }
        }
        data.truncate(free.len() as usize);
        let (space, addr) = (id, free.start);
        if !free.is_empty() {
            effect.writes.push(MemWrite { space, addr, data });
        }
    }
    if free.is_empty() {
        return Err(Errno::EEXIST.into());
    }
    let regions = &mut world.space_mut(id).userfaults.regions;
    regions.set_missing(free, false);
    regions.set_protected(free, is_protected);
    effect.rights = regions.wanted(free);
    Ok(free.len())
}

/// `UFFDIO_WRITEPROTECT`. A page that does not exist can be protected only if the object has that feature.
pub(crate) fn protect(
    world: &mut World,
    (id, key): (SpaceId, ObjectKey),
    range: AddrRange,
    is_protected: bool,
    effect: &mut Effect,
) -> Answered<()> {
    let object = world.spaces.get(&id).and_then(|s| s.userfaults.objects.get(&key));
    let features = object.and_then(|object| object.features).unwrap_or_default();
    let model = world.spaces.get(&id).map(|space| &space.model);
    let parts = model.map(|model| model.within(range)).unwrap_or_default();
    let mut result = Err(Errno::ENOENT);
    for part in parts {
        let regions = &world.space_mut(id).userfaults.regions;
        let registered = regions.within(part.range);
        let can_be: u64 = registered
            .iter()
            .filter(|region| region.mode.has_protected())
            .map(|region| region.range.len())
            .sum();
        if can_be != part.range.len() {
            result = Err(Errno::ENOENT);
            break;
        }
        let mut left_out = match is_protected && !features.protect_absent() {
            true => absent(world, id, part.range)?,
            false => vec![],
        };
        let regions = &mut world.space_mut(id).userfaults.regions;
        left_out.extend(regions.missing_in(part.range));
        left_out.sort_by_key(|range: &AddrRange| range.start);
        for there in part.range.without(left_out.into_iter()) {
            regions.set_protected(there, is_protected);
        }
        effect.rights.extend(regions.wanted(part.range));
        result = Ok(());
    }
    Ok(result?)
}

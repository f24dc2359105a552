//! The page index: which pages a checkpoint has, and where their contents are.
//!
//! A page that is in no run holds what its mapping is backed by. The others are
//! in blocks of this file or of an earlier one of the same trace, or are zeros
//! (over a mapped file that holds something else there).
//!
//! References are flat: a block of an earlier file is named directly, however
//! many checkpoints lie between. So there are no chains and no cycles, and each
//! block is read once, however many refer to it.

use std::collections::{BTreeMap, BTreeSet};

use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddrRange, Backing, ObjectId, SpaceId};

use crate::block::BlockRef;
use crate::image::SessionImage;

/// The owner of pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageTarget {
    /// An address space; pages are named by their address.
    Space(SpaceId),
    /// A shared memory object; pages are named by their offset in it.
    Object(ObjectId),
}

impl std::fmt::Display for PageTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PageTarget::Space(id) => write!(f, "address space {id}"),
            PageTarget::Object(id) => write!(f, "shared memory object {}", id.0),
        }
    }
}

/// Stands for a block in a [`Run`] of zero pages.
pub(crate) const ZERO_BLOCK: u32 = u32::MAX;

/// Zero pages in one run at most, so that a few bytes of a hostile file cannot ask for a day's work.
pub(crate) const MAX_ZERO_RUN: u32 = 1 << 16;

/// Pages that follow each other in their target and in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Number of the first page (address or offset divided by the page size).
    pub page: u64,
    /// Number of pages, at least 1.
    pub count: u32,
    /// Index into [`PageIndex::blocks`], or [`ZERO_BLOCK`].
    pub block: u32,
    /// Place of the first page in the block.
    pub slot: u16,
}

impl Run {
    /// The addresses (or offsets) of its pages.
    pub fn range(&self) -> AddrRange {
        AddrRange::sized(Addr(self.page * PAGE), u64::from(self.count) * PAGE)
    }

    /// The part of the run with the pages of `part`, which lies in it.
    pub fn part(&self, part: AddrRange) -> Run {
        let skipped = part.start.0 / PAGE - self.page;
        Run {
            page: self.page + skipped,
            count: (part.len() / PAGE) as u32,
            block: self.block,
            slot: match self.block {
                ZERO_BLOCK => self.slot,
                _ => self.slot + skipped as u16,
            },
        }
    }
}

/// The pages that there are, and their places.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct PageIndex {
    /// Blocks that runs refer to.
    pub blocks: Vec<BlockRef>,
    /// Runs in ascending order of pages.
    pub targets: BTreeMap<PageTarget, Vec<Run>>,
}

impl PageIndex {
    /// Puts the pages of a target in order and joins what continues. Says which page is there twice, if
    /// one is.
    pub fn insert(&mut self, target: PageTarget, mut pages: Vec<Run>) -> Result<(), u64> {
        pages.sort_by_key(|r| r.page);
        let mut runs: Vec<Run> = Vec::with_capacity(pages.len());
        for run in pages {
            if let Some(last) = runs.last_mut() {
                let end = last.page + u64::from(last.count);
                if run.page < end {
                    return Err(run.page);
                }
                let continues = match last.block {
                    ZERO_BLOCK => last.count + run.count <= MAX_ZERO_RUN,
                    _ => u32::from(last.slot) + last.count == u32::from(run.slot),
                };
                if run.page == end && run.block == last.block && continues {
                    last.count += run.count;
                    continue;
                }
            }
            runs.push(run);
        }
        if !runs.is_empty() {
            self.targets.insert(target, runs);
        }
        Ok(())
    }

    /// For each block whether several targets have pages in it.
    pub fn wanted_twice(&self) -> Vec<bool> {
        let mut by = vec![None; self.blocks.len()];
        let mut twice = vec![false; self.blocks.len()];
        for (target, runs) in &self.targets {
            for run in runs.iter().filter(|run| run.block != ZERO_BLOCK) {
                let before = by[run.block as usize].replace(target);
                twice[run.block as usize] |= before.is_some_and(|before| before != target);
            }
        }
        twice
    }

    /// The events of earlier checkpoints that this one needs.
    pub fn references(&self, own: u64) -> BTreeSet<u64> {
        self.blocks
            .iter()
            .map(|b| b.event)
            .filter(|&e| e != own)
            .collect()
    }

    /// A fault of the index, as that of the checkpoint with this image whose blocks lie in `area` of its file. An index
    /// without fault can be followed without any further test.
    pub fn fault(&self, image: &SessionImage, area: std::ops::Range<u64>) -> Option<String> {
        let event = image.event.0;
        for (i, block) in self.blocks.iter().enumerate() {
            if let Some(why) = block.fault() {
                return Some(format!("entry {i}: {why}"));
            }
            let end = block.offset.checked_add(u64::from(block.length));
            let inside = end.is_some_and(|end| area.start <= block.offset && end <= area.end);
            if block.event > event {
                return Some(format!(
                    "block {i} refers to a later checkpoint ({})",
                    block.event
                ));
            }
            if end.is_none() || (block.event == event && !inside) {
                return Some(format!("block {i} lies outside of its file"));
            }
        }
        self.targets.iter().find_map(|(target, runs)| {
            self.runs_fault(runs)
                .or_else(|| belongs(image, *target, runs))
                .map(|why| format!("{target}: {why}"))
        })
    }

    fn runs_fault(&self, runs: &[Run]) -> Option<String> {
        let mut end = 0;
        for run in runs {
            if run.count == 0 || run.page < end {
                return Some(format!("page run at {} out of order", run.page));
            }
            end = run.page.saturating_add(u64::from(run.count));
            if end > u64::MAX / PAGE {
                return Some("page run beyond the end of memory".into());
            }
            let fits = match run.block {
                ZERO_BLOCK => run.count <= MAX_ZERO_RUN,
                i => self
                    .blocks
                    .get(i as usize)
                    .is_some_and(|b| u64::from(run.slot) + u64::from(run.count) <= u64::from(b.pages)),
            };
            if !fits {
                return Some(format!("page run at {} does not fit into its block", run.page));
            }
        }
        None
    }
}

/// The first fault among the runs: pages that the target cannot have.
fn belongs(image: &SessionImage, target: PageTarget, runs: &[Run]) -> Option<String> {
    match target {
        PageTarget::Object(id) => {
            let Some(object) = image.objects.iter().find(|o| o.id == id) else {
                return Some("is not in the image".into());
            };
            if object.content.is_some() {
                return Some("has pages, but is a file of the trace".into());
            }
            let end = Addr(object.size).page_ceil();
            runs.iter()
                .find(|r| r.range().end > end)
                .map(|r| format!("page at {} beyond its end", r.range().start))
        }
        PageTarget::Space(id) => {
            let Some(space) = image.spaces.iter().find(|s| s.id == id) else {
                return Some("is not in the image".into());
            };
            // Both in ascending order: one pass. A run may reach over several mappings that touch.
            let mut mappings = space
                .space
                .iter()
                .filter(|m| captured(&m.backing))
                .map(|m| m.range)
                .peekable();
            runs.iter().find_map(|run| {
                let range = run.range();
                let mut at = range.start;
                while at < range.end {
                    match mappings.peek() {
                        Some(m) if m.end <= at => drop(mappings.next()),
                        Some(m) if m.start <= at => at = m.end.min(range.end),
                        _ => return Some(format!("page at {at} is not in any private mapping")),
                    }
                }
                None
            })
        }
    }
}

/// Says if the pages of a mapping with this backing belong to its address space.
pub(crate) fn captured(backing: &Backing) -> bool {
    matches!(
        backing,
        Backing::Anonymous | Backing::File { .. } | Backing::CopyOnWrite { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ObjectImage, SpaceImage};
    use rr_trace::event::EventNumber;
    use rr_tracee::{AddressSpace, ForkPolicy, Mapping, Prot};

    fn image() -> SessionImage {
        let mapping = |page: u64, pages: u64, backing| Mapping {
            range: AddrRange::sized(Addr(page * PAGE), pages * PAGE),
            prot: Prot::RW,
            backing,
            fork: ForkPolicy::Copy,
            name: "".into(),
        };
        let space = AddressSpace::from_mappings([
            mapping(16, 4, Backing::Anonymous),
            mapping(
                20,
                4,
                Backing::File {
                    file: rr_tracee::FileId(1),
                    offset: 0,
                },
            ),
            mapping(24, 4, Backing::Rr),
        ]);
        SessionImage {
            event: EventNumber(9),
            time_ns: 0,
            spaces: vec![SpaceImage {
                id: SpaceId(1),
                space,
            }],
            tasks: vec![],
            objects: vec![ObjectImage {
                id: ObjectId(1),
                size: PAGE + 1,
                content: None,
            }],
        }
    }

    use crate::compression::Compression;

    fn block() -> BlockRef {
        BlockRef {
            event: 9,
            offset: 200,
            length: 4096,
            pages: 8,
            compression: Compression::Zstd,
            checksum: 0,
        }
    }

    #[test]
    fn blocks_of_several_targets_are_wanted_twice() {
        let run = |page, block| Run {
            page,
            count: 1,
            block,
            slot: 0,
        };
        let spaces = [1, 2].map(|id| PageTarget::Space(SpaceId(id)));
        let index = PageIndex {
            blocks: vec![block(), block()],
            targets: [
                (spaces[0], vec![run(1, 0), run(2, 1), run(4, 0)]),
                (spaces[1], vec![run(2, 1), run(3, ZERO_BLOCK)]),
            ]
            .into(),
        };
        assert_eq!(index.wanted_twice(), [false, true]);
    }

    fn fault_of(target: PageTarget, run: Run, block: BlockRef) -> Option<String> {
        let index = PageIndex {
            blocks: vec![block],
            targets: [(target, vec![run])].into(),
        };
        index.fault(&image(), 160..10000)
    }

    #[test]
    fn only_what_can_be_followed_is_accepted() {
        let space = PageTarget::Space(SpaceId(1));
        let object = PageTarget::Object(ObjectId(1));
        let run = Run {
            page: 16,
            count: 8,
            block: 0,
            slot: 0,
        };
        assert_eq!(fault_of(space, run, block()), None);
        assert_eq!(
            fault_of(
                object,
                Run {
                    page: 0,
                    count: 2,
                    ..run
                },
                block()
            ),
            None
        );
        assert_eq!(
            fault_of(
                space,
                run,
                BlockRef {
                    event: 3,
                    offset: 1 << 40,
                    ..block()
                }
            ),
            None
        );
        assert_eq!(
            fault_of(
                space,
                Run {
                    block: ZERO_BLOCK,
                    ..run
                },
                block()
            ),
            None
        );
        let bad: [(PageTarget, Run, BlockRef, &str); 13] = [
            (
                object,
                Run {
                    page: 1,
                    count: 2,
                    ..run
                },
                block(),
                "beyond its end",
            ),
            (PageTarget::Object(ObjectId(2)), run, block(), "not in the image"),
            (PageTarget::Space(SpaceId(2)), run, block(), "not in the image"),
            (
                space,
                Run { page: 15, ..run },
                block(),
                "not in any private mapping",
            ),
            (
                space,
                Run { page: 17, ..run },
                block(),
                "not in any private mapping",
            ),
            (space, Run { slot: 1, ..run }, block(), "does not fit"),
            (space, Run { block: 1, ..run }, block(), "does not fit"),
            (space, Run { count: 0, ..run }, block(), "out of order"),
            (
                space,
                Run {
                    page: u64::MAX / PAGE,
                    ..run
                },
                block(),
                "end of memory",
            ),
            (space, run, BlockRef { event: 10, ..block() }, "later checkpoint"),
            (
                space,
                run,
                BlockRef {
                    offset: 9000,
                    ..block()
                },
                "outside",
            ),
            (
                space,
                run,
                BlockRef {
                    event: 1,
                    offset: u64::MAX,
                    ..block()
                },
                "outside",
            ),
            (
                space,
                run,
                BlockRef {
                    length: 9 * 4096,
                    ..block()
                },
                "impossible length",
            ),
        ];
        for (target, run, block, why) in bad {
            let fault = fault_of(target, run, block).unwrap_or_default();
            assert!(fault.contains(why), "{fault:?} for {why}");
        }
    }

    #[test]
    fn pages_are_joined_and_doubles_found() {
        let page = |page, block, slot| Run {
            page,
            count: 1,
            block,
            slot,
        };
        let mut index = PageIndex::default();
        let target = PageTarget::Space(SpaceId(1));
        let zero = |p| page(p, ZERO_BLOCK, 0);
        index
            .insert(
                target,
                vec![
                    page(5, 0, 1),
                    page(4, 0, 0),
                    page(6, 1, 2),
                    zero(7),
                    zero(8),
                    page(10, 1, 3),
                ],
            )
            .unwrap();
        let runs = &index.targets[&target];
        assert_eq!(
            *runs,
            [
                Run {
                    count: 2,
                    ..page(4, 0, 0)
                },
                page(6, 1, 2),
                Run { count: 2, ..zero(7) },
                page(10, 1, 3)
            ]
        );
        assert_eq!(index.insert(target, vec![page(5, 0, 1), zero(5)]), Err(5));
    }
}

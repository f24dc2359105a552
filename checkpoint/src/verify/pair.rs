//! Comparing two stored checkpoints of the same event: one that was made while recording, and one of a replay, say.
//!
//! The checkpoints may be stored in different ways (which blocks there are, a page that is stored although it is as when
//! untouched). Sessions resumed from them must hold the same.

use std::collections::{BTreeSet, HashMap};

use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddressSpace, Backing, FileId};

use super::{Opened, Untouched, compare_images, untouched};
use crate::block::PAGE_BYTES;
use crate::error::Result;
use crate::index::PageTarget;
use crate::restore::Checkpoint;

/// In what two checkpoints differ, in words: images ([`compare_images`]), then pages, at most `limit` of these.
pub fn compare_checkpoints(
    a: &Checkpoint,
    b: &Checkpoint,
    open: &dyn Fn(FileId) -> Opened,
    limit: usize,
) -> Result<Vec<String>> {
    let mut out = compare_images(a.image(), b.image());
    if !out.is_empty() {
        return Ok(out);
    }
    let image = a.image();
    let spaces = image
        .spaces
        .iter()
        .map(|s| (PageTarget::Space(s.id), Some(&s.space)));
    let objects = image.objects.iter().map(|o| (PageTarget::Object(o.id), None));
    for (target, space) in spaces.chain(objects) {
        compare_pages(a, b, target, space, open, limit, &mut out)?;
    }
    Ok(out)
}

/// Compares the pages of an address space, or of an object.
fn compare_pages(
    a: &Checkpoint,
    b: &Checkpoint,
    target: PageTarget,
    space: Option<&AddressSpace>,
    open: &dyn Fn(FileId) -> Opened,
    limit: usize,
    out: &mut Vec<String>,
) -> Result<()> {
    let mut files = HashMap::new();
    let open = |untouched| match untouched {
        Untouched::File(file) => open(file),
        // Its pages are the checkpoint's.
        Untouched::Object(_) => Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
    };
    let mut numbers = BTreeSet::new();
    for checkpoint in [a, b] {
        for (range, _) in checkpoint.pages(target)? {
            numbers.extend(range.start.0 / PAGE..range.end.0 / PAGE);
        }
    }
    let mut page = |checkpoint: &Checkpoint, at: Addr| -> Result<Vec<u8>> {
        match (
            checkpoint.read_page(target, at)?,
            space.and_then(|space| space.at(at)),
        ) {
            (Some(bytes), _) => Ok(bytes),
            (None, Some(mapping)) => match mapping.backing {
                Backing::CopyOnWrite { object, offset } => {
                    let at = Addr(offset + (at - mapping.range.start));
                    let page = checkpoint.read_page(PageTarget::Object(object), at)?;
                    Ok(page.unwrap_or_else(|| vec![0; PAGE_BYTES]))
                }
                _ => untouched(mapping, at, PAGE_BYTES, &mut files, &open),
            },
            (None, None) => Ok(vec![0; PAGE_BYTES]),
        }
    };
    for at in numbers.into_iter().map(|number| Addr(number * PAGE)) {
        let (left, right) = (page(a, at)?, page(b, at)?);
        let differs = |n: &usize| left.get(*n) != right.get(*n);
        if let Some(n) = (0..PAGE_BYTES).find(differs) {
            let bytes = (0..PAGE_BYTES).filter(differs).count();
            let (x, y) = (left.get(n).copied(), right.get(n).copied());
            out.push(format!(
                "{target}: byte at {}: {:#04x} / {:#04x} ({bytes} bytes of the page differ)",
                at + n as u64,
                x.unwrap_or(0),
                y.unwrap_or(0)
            ));
            if out.len() >= limit {
                break;
            }
        }
    }
    Ok(())
}

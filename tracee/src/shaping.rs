//! Changes of the address space by buffered calls, which their records describe in three words
//! (`preload/library/shaping.rs` writes them).
//!
//! The recorder applies them to its model when it takes the records out. The replayer makes the changes
//! when the library asks for it.

use rr_preload::records::Record;

use crate::ids::{Addr, AddrRange, PAGE};
use crate::madv::advised;
use crate::space::{Backing, ForkPolicy, Mapping, Prot, SpaceOp};

/// End of the addresses where the kernel maps anything (x86-64 with four levels of page tables).
const TOP: u64 = 0x7fff_ffff_f000;

/// Error: the words describe a change that no such call can make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Impossible;

/// Returns whether the record belongs to a call that changes the address space.
pub fn is_shaping(record: &Record<'_>) -> bool {
    match record.number {
        libc::SYS_mmap | libc::SYS_munmap | libc::SYS_mprotect | libc::SYS_brk => true,
        libc::SYS_madvise => !record.outputs.is_empty(),
        _ => false,
    }
}

/// The change that a call has made, if any.
pub fn change(record: &Record<'_>) -> Result<Option<SpaceOp>, Impossible> {
    let (words, rest) = record.outputs.as_chunks::<8>();
    let ([first, second, third], []) = (words, rest) else {
        return Err(Impossible);
    };
    let [first, second, third] = [first, second, third].map(|w| u64::from_le_bytes(*w));
    let pages = |start: u64, end: u64| {
        let valid = start.is_multiple_of(PAGE) && end.is_multiple_of(PAGE) && start < end && end <= TOP;
        valid
            .then_some(AddrRange::new(Addr(start), Addr(end)))
            .ok_or(Impossible)
    };
    let range = || pages(first, first.checked_add(second).ok_or(Impossible)?);
    let map = |range, prot, name: &str| {
        SpaceOp::Map(Mapping {
            range,
            prot,
            backing: Backing::Anonymous,
            fork: ForkPolicy::Copy,
            name: name.into(),
        })
    };
    Ok(Some(match record.number {
        libc::SYS_brk if second == first => return Ok(None),
        libc::SYS_brk if second > first => map(pages(first, second)?, Prot::RW, "[heap]"),
        libc::SYS_brk => SpaceOp::Unmap(pages(second, first)?),
        libc::SYS_mmap => map(range()?, Prot::from_bits(third), ""),
        libc::SYS_munmap => SpaceOp::Unmap(range()?),
        libc::SYS_mprotect => SpaceOp::Protect(range()?, Prot::from_bits(third)),
        libc::SYS_madvise => {
            let advice = i32::try_from(third).map_err(|_| Impossible)?;
            advised(range()?, advice).ok_or(Impossible)?
        }
        _ => return Err(Impossible),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: i64, words: [u64; 3], with: impl FnOnce(&Record<'_>)) {
        let outputs: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        with(&Record {
            number,
            result: 0,
            outputs: &outputs,
            end: 40,
        });
    }

    #[test]
    fn changes_are_read() {
        record(libc::SYS_brk, [0x5000, 0x7000, 0], |r| match change(r) {
            Ok(Some(SpaceOp::Map(m))) if &*m.name == "[heap]" && m.range.len() == 0x2000 => {}
            other => panic!("{other:?}"),
        });
        let range = AddrRange::new(Addr(0x5000), Addr(0x7000));
        record(libc::SYS_brk, [0x7000, 0x5000, 0], |r| {
            assert_eq!(change(r), Ok(Some(SpaceOp::Unmap(range))));
        });
        record(libc::SYS_brk, [0x7000, 0x7000, 0], |r| {
            assert_eq!(change(r), Ok(None))
        });
        record(libc::SYS_mprotect, [0x5000, 0x2000, 1], |r| {
            assert_eq!(change(r), Ok(Some(SpaceOp::Protect(range, Prot::READ))));
        });
        record(libc::SYS_madvise, [0x5000, 0x2000, 4], |r| {
            assert_eq!(change(r), Ok(Some(SpaceOp::Discard(range))));
        });
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (number, words) in [
            (libc::SYS_munmap, [0x5001, 0x2000, 0]),
            (libc::SYS_munmap, [0x5000, 0, 0]),
            (libc::SYS_munmap, [0x5000, u64::MAX - 0xfff, 0]),
            (libc::SYS_mmap, [0x7fff_ffff_f000, 0x1000, 3]),
            (libc::SYS_madvise, [0x5000, 0x1000, 8]),
            (libc::SYS_read, [0x5000, 0x1000, 0]),
        ] {
            record(number, words, |r| {
                assert_eq!(change(r), Err(Impossible), "{words:x?}")
            });
        }
    }
}

//! Socket options that read or write other memory than their length says.

use super::forms::*;
use super::spec::{Holder, Len, MemorySpec, Out, Part, ReadPart, Written};
use crate::error::Result;
use crate::ids::Addr;
use crate::memory::ReadMemory;
use crate::regs::Registers;

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
/// `SO_GET_FILTER`: its length counts instructions of 8 bytes.
const GET_FILTER: i32 = 26;
/// `IP_MSFILTER`: struct ip_msfilter { 16 bytes, 12 numsrc, slist[] }
const MSFILTER: i32 = 41;
/// `MCAST_MSFILTER`: struct group_filter { 144 bytes, 140 numsrc, slist[] }
const MCAST_MSFILTER: i32 = 48;
/// `EBT_SO_GET_ENTRIES`, `EBT_SO_GET_INIT_ENTRIES` (`<linux/netfilter_bridge/ebtables.h>`).
const EBT_ENTRIES: [i32; 2] = [129, 131];
/// `IPT_SO_SET_REPLACE`, and `IP6T_SO_SET_REPLACE`.
const IPT_REPLACE: i32 = 64;
/// `ARPT_SO_SET_REPLACE`
const ARPT_REPLACE: i32 = 96;
/// `EBT_SO_SET_ENTRIES`
const EBT_REPLACE: i32 = 128;

/// Size of the counters of a rule (`struct xt_counters`, `struct ebt_counter`).
const COUNTERS: u64 = 16;
/// Maximum number of counters that an answer has room for. Nobody needs more.
const MOST: u64 = 1 << 24;
/// Maximum number of multicast sources: a socket has a few dozen.
const MOST_SOURCES: u64 = 1 << 16;

const VALUE: u8 = 3;
const LENGTH: u8 = 4;

fn option(r: &Registers) -> (i32, i32) {
    (r.arg(1) as i32, r.arg(2) as i32)
}

/// The memory that `getsockopt` writes.
pub(super) fn get(r: &Registers) -> Option<MemorySpec> {
    // Some options first read the buffer's contents.
    const USUAL: &[Out] = &[counted(VALUE, LENGTH).with_holes(), count_word(LENGTH)];
    const FILTER: &[Out] = &[value(LENGTH, 0, 8, 0), count_word(LENGTH)];
    const SOURCES: &[Out] = &[value(VALUE, 12, 4, 16), count_word(LENGTH)];
    const GROUP_SOURCES: &[Out] = &[value(VALUE, 140, 128, 144), count_word(LENGTH)];
    Some(match option(r) {
        (libc::SOL_SOCKET, GET_FILTER) => MemorySpec::Outputs(FILTER),
        (IP, MSFILTER) => MemorySpec::Outputs(SOURCES),
        (IP | IPV6, MCAST_MSFILTER) => MemorySpec::Outputs(GROUP_SOURCES),
        (IP, option) if EBT_ENTRIES.contains(&option) => MemorySpec::Computed {
            parts: entries_parts,
            written: all_written,
        },
        _ => MemorySpec::Outputs(USUAL),
    })
}

/// A value whose length is the word at `offset` behind an argument, times `unit`, plus `plus`.
const fn value(arg: u8, offset: u64, unit: u64, plus: u64) -> Out {
    let len = Len::At {
        arg,
        offset,
        unit,
        plus,
    };
    perhaps_len(VALUE, len).at_most(MOST_SOURCES)
}

/// The memory that `setsockopt` writes: replacing a table of rules stores the counters of the old rules
/// at an address in the table.
pub(super) fn set(r: &Registers) -> Option<MemorySpec> {
    Some(match option(r) {
        (IP | IPV6, IPT_REPLACE) | (IP, ARPT_REPLACE | EBT_REPLACE) => MemorySpec::Computed {
            parts: replace_parts,
            written: all_written,
        },
        _ => MemorySpec::None,
    })
}

/// Offsets, in a table of rules, of the number of counters and of their address.
fn counters_in(option: i32) -> (u64, u64) {
    match option {
        // name[32], valid_hooks, num_entries, size, hook_entry[5], underflow[5], num_counters, counters
        IPT_REPLACE => (84, 88),
        // The same structure, but with three hooks.
        ARPT_REPLACE => (68, 72),
        // name[32], valid_hooks, nentries, entries_size, hook_entry[6] (pointers), num_counters, counters, entries
        _ => (96, 104),
    }
}

fn replace_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let (count, pointer) = counters_in(option(r).1);
    let len = u64::from(r.arg(4) as u32);
    if len >= pointer + 8
        && let Some(table) = table(r, len, &mut parts, mem)?
    {
        pointed(table, (count, COUNTERS), pointer, &mut parts, mem)?;
    }
    Ok(parts)
}

/// `struct ebt_replace`: entries and counters go to different places.
fn entries_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    const SIZE: u64 = 120;
    let mut parts = Vec::new();
    if let Some(table) = table(r, SIZE, &mut parts, mem)? {
        pointed(table, (96, COUNTERS), 104, &mut parts, mem)?;
        pointed(table, (40, 1), 112, &mut parts, mem)?;
    }
    let count = Part {
        holder: Holder::Arg(LENGTH),
        addr: Addr(r.arg(LENGTH.into())),
        len: 4,
        copy_in: true,
    };
    push(&mut parts, count, mem)?;
    Ok(parts)
}

fn table(r: &Registers, len: u64, parts: &mut Vec<Part>, mem: &dyn ReadMemory) -> Result<Option<usize>> {
    let table = Part {
        holder: Holder::Arg(VALUE),
        addr: Addr(r.arg(VALUE.into())),
        len,
        copy_in: true,
    };
    push_whole(parts, table, mem)
}

/// Adds the array that a structure points to. Another word of the structure is the number of elements,
/// of `unit` bytes each.
pub(super) fn pointed(
    table: usize,
    (count, unit): (u64, u64),
    pointer: u64,
    parts: &mut Vec<Part>,
    mem: &dyn ReadMemory,
) -> Result<()> {
    let base = parts[table].addr;
    let (Some(count), Some(addr)) = (
        unless_died(mem.read_u32(base + count))?,
        unless_died(mem.read_u64(base + pointer))?,
    ) else {
        return Ok(());
    };
    let part = Part {
        holder: Holder::Within {
            part: table,
            offset: pointer,
        },
        addr: Addr(addr),
        len: u64::from(count).saturating_mul(unit).min(MOST),
        copy_in: true,
    };
    push(parts, part, mem)?;
    Ok(())
}

/// Declares all bytes of all parts as perhaps written.
pub(super) fn all_written(_: &Registers, parts: &[Part], _: i64, _: &ReadPart<'_>) -> Result<Vec<Written>> {
    let whole = |(part, p): (usize, &Part)| Written {
        part,
        offset: 0,
        len: p.len,
    };
    Ok(parts.iter().enumerate().map(whole).collect())
}

//! The text of `/proc/PID/maps` and `smaps` as a recorded program must see it.
//!
//! Invariant: the text shows what a native run could show. rr's own pages are left out. The stack is one mapping: a
//! recorded program has the whole room of its stack from the beginning, as a mapping below `[stack]`
//! ([`crate::task::exec`]), and the two are shown as a stack that has grown to its limit. Programs look for the mapping
//! below the stack to find out how far the stack can grow (`pthread_getattr_np`, AddressSanitizer).
//!
//! Both files are lists of entries (proc_pid_maps(5), proc_pid_smaps(5)). An entry is a line about a mapping; in `smaps`
//! lines of figures follow.
//!
//! ```text
//!   7ffd2adf5000-7ffd2ae16000 rw-p 00000000 00:00 0      [stack]
//!   Size:                132 kB
//! ```

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use rr_tracee::AddrRange;
use rr_tracee::procfs::{MapsLine, parse_maps_line};

/// One mapping.
struct Entry<'a> {
    mapping: MapsLine,
    /// The first line behind the range: access rights, offset, device, inode, name.
    about: &'a str,
    /// The lines of figures.
    figures: Vec<&'a str>,
}

/// Figures that are not sums over the pages of a mapping.
const NOT_SUMS: [&str; 2] = ["KernelPageSize", "MMUPageSize"];

/// The text without the entries of our own pages, and with a single entry for the stack.
pub(super) fn as_seen_by_program(text: &str, is_ours: impl Fn(AddrRange) -> bool) -> String {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for line in text.lines() {
        match (parse_maps_line(line), entries.last_mut()) {
            (Some(mapping), _) => entries.push(Entry {
                mapping,
                about: line.split_once(' ').map_or("", |(_, about)| about),
                figures: Vec::new(),
            }),
            (None, Some(entry)) => entry.figures.push(line),
            (None, None) => {}
        }
    }
    entries.retain(|entry| !is_ours(entry.mapping.range));
    let mut shown = String::with_capacity(text.len());
    let stack = stack_with_room(&entries);
    for entry in &entries[..stack.start] {
        write_as_one(&mut shown, std::slice::from_ref(entry));
    }
    write_as_one(&mut shown, &entries[stack.clone()]);
    for entry in &entries[stack.end..] {
        write_as_one(&mut shown, std::slice::from_ref(entry));
    }
    shown
}

/// The entries of the stack and of its room; nothing at the end if the process has no stack.
fn stack_with_room(entries: &[Entry<'_>]) -> Range<usize> {
    let Some(stack) = entries.iter().position(|entry| entry.mapping.name == "[stack]") else {
        return entries.len()..entries.len();
    };
    let is_room = |n: &usize| is_room_below(&entries[*n].mapping, &entries[*n + 1].mapping);
    let lowest = (0..stack).rev().take_while(is_room).last();
    lowest.unwrap_or(stack)..stack + 1
}

/// Returns whether a mapping can be room of the stack below another one: anonymous, adjacent, with the same rights.
fn is_room_below(lower: &MapsLine, upper: &MapsLine) -> bool {
    lower.range.end == upper.range.start
        && (lower.prot, lower.shared) == (upper.prot, upper.shared)
        && lower.name.is_empty()
        && lower.inode == 0
}

/// Writes adjacent mappings as one, named as the last of them. Their figures are added.
fn write_as_one(shown: &mut String, parts: &[Entry<'_>]) {
    let ([first, ..], [others @ .., last]) = (parts, parts) else {
        return;
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        shown,
        "{:08x}-{:08x} {}",
        first.mapping.range.start.0, last.mapping.range.end.0, last.about
    );
    for line in &last.figures {
        let _ = writeln!(shown, "{}", sum_of(line, others));
    }
}

/// A line of figures (`Rss:   12 kB`) with those of other mappings added. Other lines stay.
fn sum_of<'a>(line: &'a str, others: &[Entry<'_>]) -> Cow<'a, str> {
    let Some((name, own)) = kilobytes(line).filter(|(name, _)| !NOT_SUMS.contains(name)) else {
        return line.into();
    };
    let theirs: u64 = others
        .iter()
        .flat_map(|entry| entry.figures.iter().filter_map(|line| kilobytes(line)))
        .filter(|(other, _)| *other == name)
        .map(|(_, kilobytes)| kilobytes)
        .sum();
    match theirs {
        0 => line.into(),
        _ => format!("{:<16}{:>8} kB", format!("{name}:"), own + theirs).into(),
    }
}

/// Name and figure of `Name:  12 kB`.
fn kilobytes(line: &str) -> Option<(&str, u64)> {
    let (name, figure) = line.strip_suffix(" kB")?.split_once(':')?;
    Some((name, figure.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rr_tracee::Addr;

    const OURS: AddrRange = AddrRange {
        start: Addr(0x7000_0000),
        end: Addr(0x7000_1000),
    };

    fn seen(text: &str) -> String {
        as_seen_by_program(text, |range| OURS.intersect(range).is_some())
    }

    #[test]
    fn our_entries_are_left_out_whole() {
        let text = "55550000-55551000 r--p 00000000 00:00 0      /a-b\nSize: 4 kB\n\
                    70000000-70001000 r-xp 00000000 00:00 0 \nSize: 4 kB\n\
                    7ffff000-80000000 rw-p 00000000 00:00 0      [stack]\nSize: 4 kB\n";
        let kept = "55550000-55551000 r--p 00000000 00:00 0      /a-b\nSize: 4 kB\n\
                    7ffff000-80000000 rw-p 00000000 00:00 0      [stack]\nSize: 4 kB\n";
        assert_eq!(seen(text), kept);
    }

    #[test]
    fn the_stack_is_one_mapping() {
        let text = "7e000000-7f000000 rw-p 00000000 00:00 0 \n\
                    7f001000-7ffde000 rw-p 00000000 00:00 0 \n\
                    7ffde000-7ffff000 rw-p 00000000 00:00 0      [stack]\n\
                    7ffff000-80000000 rw-p 00000000 00:00 0 \n";
        let shown = "7e000000-7f000000 rw-p 00000000 00:00 0 \n\
                     7f001000-7ffff000 rw-p 00000000 00:00 0      [stack]\n\
                     7ffff000-80000000 rw-p 00000000 00:00 0 \n";
        assert_eq!(seen(text), shown);
    }

    #[test]
    fn figures_of_the_stack_are_sums() {
        let figures = "Size:                 20 kB\nKernelPageSize:        4 kB\nRss:                   8 kB\n\
                       THPeligible:           0\nVmFlags: rd wr mr\n";
        let text = format!(
            "7fff0000-7fff5000 rw-p 00000000 00:00 0 \n{figures}\
             7fff5000-7fffa000 rw-p 00000000 00:00 0      [stack]\n{figures}"
        );
        let shown = "7fff0000-7fffa000 rw-p 00000000 00:00 0      [stack]\n\
                     Size:                 40 kB\nKernelPageSize:        4 kB\nRss:                  16 kB\n\
                     THPeligible:           0\nVmFlags: rd wr mr\n";
        assert_eq!(seen(&text), shown);
    }

    #[test]
    fn other_neighbours_stay_apart() {
        for lower in [
            "7fff0000-7fff5000 r--p 00000000 00:00 0 ",
            "7fff0000-7fff4000 rw-p 00000000 00:00 0 ",
            "7fff0000-7fff5000 rw-s 00000000 00:01 7      /dev/zero (deleted)",
            "7fff0000-7fff5000 rw-p 00000000 fe:00 9      /lib/a",
            "7fff0000-7fff5000 rw-p 00000000 00:00 0      [heap]",
        ] {
            let text = format!("{lower}\n7fff5000-7fffa000 rw-p 00000000 00:00 0      [stack]\n");
            assert_eq!(seen(&text), text);
        }
    }
}

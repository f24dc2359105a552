//! Names for places in an address space: the nearest symbol of the executable or library there, whose
//! file is in the trace.

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSegment, ObjectSymbol, ReadCache, SymbolKind};
use rr_trace::TraceReader;
use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddressSpace, Backing, FileId, Mapping};

/// The symbol at or before an address, as `name+0x8 (file)`. `None` if the address belongs to no file
/// with symbols.
pub(crate) fn nearest(reader: &TraceReader, space: &AddressSpace, addr: Addr) -> Option<String> {
    let (mapping, file) = beginning(space, addr)?;
    // A file that cannot be read has no names. Code that needs its contents reports the reason.
    let cache = ReadCache::new(reader.open_file(file).ok()?.reader());
    let elf = ElfFile64::<Endianness, _>::parse(&cache).ok()?;
    // Address of the file's first page in its own numbering: 0 except for executables with a fixed
    // address.
    let first = elf.segments().find(|s| s.file_range().0 < PAGE)?;
    let base = first.address().wrapping_sub(first.file_range().0);
    let own = (addr - mapping.range.start).checked_add(base)?;
    let is_loaded = elf.segments().any(|segment| {
        let end = segment.address().checked_add(segment.size());
        let pages = segment.address() / PAGE..end.unwrap_or(0).div_ceil(PAGE);
        pages.contains(&(own / PAGE))
    });
    if !is_loaded {
        return None;
    }
    let (symbol, distance) =
        at_or_before(elf.symbols(), own).or_else(|| at_or_before(elf.dynamic_symbols(), own))?;
    Some(match distance {
        0 => format!("{symbol} ({})", mapping.name),
        _ => format!("{symbol}+{distance:#x} ({})", mapping.name),
    })
}

/// The nearest mapping of the beginning of a file, at or below an address.
fn beginning(space: &AddressSpace, addr: Addr) -> Option<(&Mapping, FileId)> {
    if space.at(addr)?.name.starts_with('[') {
        return None;
    }
    space
        .iter()
        .rev()
        .filter(|mapping| mapping.range.start <= addr)
        .find_map(|mapping| match mapping.backing {
            Backing::File { file, offset: 0 } => Some((mapping, file)),
            _ => None,
        })
}

/// The last symbol at or before an address, and the distance from it.
fn at_or_before<'data>(
    symbols: impl Iterator<Item = impl ObjectSymbol<'data>>,
    own: u64,
) -> Option<(String, u64)> {
    let is_place = |kind: SymbolKind| {
        matches!(
            kind,
            SymbolKind::Text | SymbolKind::Data | SymbolKind::Label | SymbolKind::Unknown
        )
    };
    symbols
        .filter(|s| s.is_definition() || s.kind() == SymbolKind::Unknown && !s.is_undefined())
        .filter(|s| is_place(s.kind()) && s.address() <= own)
        .filter_map(|s| {
            Some((
                s.address(),
                s.size(),
                s.name().ok().filter(|name| !name.is_empty())?.to_owned(),
            ))
        })
        // Of several symbols at one address, the one with a size.
        .max_by_key(|(address, size, _)| (*address, *size))
        .map(|(address, _, name)| (name, own - address))
}

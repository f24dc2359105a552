//! Any call with any arguments and any memory: no panic, no part beyond its bounds, no written bytes
//! outside of a part.

use proptest::prelude::*;

use crate::error::{Error, Result};
use crate::memory::ReadMemory;
use crate::syscalls::{Holder, all};
use crate::{Addr, Registers, Tid};

const START: u64 = 0x1000;

/// Three pages of arbitrary bytes, and nothing around them.
#[derive(Debug)]
struct Noise(Vec<u8>);

impl ReadMemory for Noise {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<()> {
        let bad = || {
            let (len, errno) = (buf.len(), nix::errno::Errno::EIO);
            Error::Memory {
                tid: Tid(1),
                what: "reading",
                addr,
                len,
                errno,
            }
        };
        let start = addr.0.checked_sub(START).ok_or_else(bad)? as usize;
        let end = start.checked_add(buf.len()).ok_or_else(bad)?;
        let bytes = self.0.get(start..end).ok_or_else(bad)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// Numbers that are plausible addresses, counts, flags or commands, and others.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        START..START + 0x3000,
        0..64u64,
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
        Just(u64::MAX),
        Just(1 << 63),
        Just(0x8912), // SIOCGIFCONF, SIOCETHTOOL, FS_IOC_FIEMAP
        Just(0x8946),
        Just(0xc020_660b),
    ]
}

fn memory() -> impl Strategy<Value = Noise> {
    prop::collection::vec(word(), 0x3000 / 8)
        .prop_map(|words| Noise(words.into_iter().flat_map(u64::to_le_bytes).collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_its_bounds(
        memory in memory(),
        args in prop::collection::vec(prop::array::uniform6(word()), 40),
        result in prop_oneof![-600i64..600, any::<i64>()],
    ) {
        for spec in all() {
            for args in &args {
                let mut entry = Registers::default();
                (0..6).for_each(|n| entry.set_arg(n, args[n]));
                spec.class_of(&entry);
                spec.blocking_of(&entry);
                spec.unknown_effect(&entry, result);
                let parts = spec.parts(&entry, &memory).unwrap();
                prop_assert!(parts.len() <= 1 + 1024 * (3 + 1024), "{}", spec.name);
                for (i, p) in parts.iter().enumerate() {
                    prop_assert!(p.len > 0 && p.len < 1 << 31 && !p.addr.is_null(), "{}: {p:?}", spec.name);
                    prop_assert!(p.addr.0.checked_add(p.len).is_some());
                    match p.holder {
                        Holder::Arg(n) => prop_assert_eq!(args[usize::from(n)], p.addr.0),
                        Holder::Within { part, offset } => {
                            prop_assert!(part < i && parts[part].copy_in && offset + 8 <= parts[part].len);
                        }
                    }
                    if p.copy_in {
                        memory.read_vec(p.addr, p.len as usize).unwrap();
                    }
                }
                let read = |part: usize, offset: u64, buf: &mut [u8]| {
                    memory.read(parts[part].addr + offset, buf)
                };
                for w in spec.written(&entry, &parts, result, &read).unwrap() {
                    let end = w.offset.checked_add(w.len);
                    prop_assert!(w.len > 0 && end.is_some_and(|end| end <= parts[w.part].len), "{}: {w:?}", spec.name);
                }
            }
        }
    }
}

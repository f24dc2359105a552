//! The payload of a call ([`rr_preload::payload`]) in another process's memory.

use rr_preload::payload::{Digest, Hasher, Source, pieces};

use crate::ids::Addr;
use crate::memory::ReadMemory;
use crate::regs::Registers;

/// The parts of a system call that its payload depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The number of the call.
    pub number: i64,
    /// Its arguments.
    pub args: [u64; 6],
    /// Its result.
    pub result: i64,
}

impl Sent {
    /// The call that a task has entered with these registers.
    pub fn by(entry: &Registers, result: i64) -> Sent {
        Sent {
            number: entry.syscall(),
            args: std::array::from_fn(|n| entry.arg(n)),
            result,
        }
    }

    /// The digest of the call's payload, after the call. `None` if there is no payload, or if it cannot
    /// be read.
    pub fn digest(&self, memory: &impl ReadMemory) -> Option<Digest> {
        let number = self.number.try_into().ok()?;
        Digest::of_call(number, &self.args, self.result, &Read(memory))
    }

    /// The first line of the payload, for messages.
    pub fn first_line(&self, memory: &impl ReadMemory) -> Option<String> {
        const MOST: u64 = 72;
        let mut bytes = Vec::new();
        pieces(
            self.number.try_into().ok()?,
            &self.args,
            self.result,
            &Read(memory),
            &mut |at, len| {
                let len = len.min(MOST - bytes.len() as u64);
                bytes.extend(memory.read_vec(Addr(at), len as usize).ok()?);
                Some(())
            },
        )?;
        let line = bytes.split_inclusive(|byte| *byte == b'\n').next()?;
        Some(line.escape_ascii().to_string())
    }
}

/// Memory of another process, as a source of payloads.
struct Read<'a, M>(&'a M);

impl<M: ReadMemory> Source for Read<'_, M> {
    fn word(&self, at: u64) -> Option<u64> {
        self.0.read_u64(Addr(at)).ok()
    }

    fn feed(&self, hasher: &mut Hasher, at: u64, len: u64) -> Option<()> {
        let bytes = self.0.read_vec(Addr(at), len as usize).ok()?;
        hasher.bytes(&bytes);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory from address 0x1000 on.
    struct Bytes(Vec<u8>);

    impl ReadMemory for Bytes {
        fn read(&self, addr: Addr, buf: &mut [u8]) -> crate::Result<()> {
            let start = (addr.0 as usize).checked_sub(0x1000);
            let found = start.and_then(|start| self.0.get(start..start + buf.len()));
            let found = found.ok_or(crate::Error::Died(crate::Tid(1)))?;
            buf.copy_from_slice(found);
            Ok(())
        }
    }

    fn memory() -> Bytes {
        let mut bytes = vec![0; 0x100];
        bytes[..5].copy_from_slice(b"line\n");
        bytes.extend((0..0x8000u32).map(|n| ((n * n) >> 3) as u8));
        Bytes(bytes)
    }

    fn sent(number: i64, args: [u64; 6], result: i64) -> Sent {
        Sent { number, args, result }
    }

    fn write(at: u64, result: i64) -> Sent {
        sent(libc::SYS_write, [1, at, 0x7000, 0, 0, 0], result)
    }

    #[test]
    fn every_byte_counts() {
        let mut memory = memory();
        for len in (1..=130).chain([255, 256, 2000, 4095, 4096]) {
            let call = write(0x1100, len);
            let before = call.digest(&memory).unwrap();
            assert_ne!(write(0x1100, len - 1).digest(&memory), Some(before), "{len}");
            for n in (0..len as usize).step_by(1 + len as usize / 100) {
                memory.0[0x100 + n] ^= 0x10;
                assert_ne!(call.digest(&memory), Some(before), "{n} of {len}");
                memory.0[0x100 + n] ^= 0x10;
            }
            memory.0[0x100 + len as usize] ^= 1;
            assert_eq!(call.digest(&memory), Some(before), "what follows does not count");
            memory.0[0x100 + len as usize] ^= 1;
        }
    }

    #[test]
    fn of_much_the_ends_count() {
        let mut memory = memory();
        let call = write(0x1100, 0x3000);
        let before = call.digest(&memory);
        for (place, counts) in [
            (0, true),
            (0x7ff, true),
            (0x800, false),
            (0x27ff, false),
            (0x2800, true),
            (0x2fff, true),
        ] {
            memory.0[0x100 + place] ^= 1;
            assert_eq!(call.digest(&memory) != before, counts, "{place:#x}");
            memory.0[0x100 + place] ^= 1;
        }
    }

    #[test]
    fn vectors_count_as_far_as_they_were_written() {
        let mut memory = memory();
        let vector: Vec<u8> = [0x1200u64, 8, 0x1300, 8]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        memory.0[0x10..0x30].copy_from_slice(&vector);
        let call = |result| sent(libc::SYS_writev, [1, 0x1010, 2, 0, 0, 0], result);
        let (all, part) = (call(16).digest(&memory), call(12).digest(&memory));
        memory.0[0x300 + 4] ^= 1;
        assert_eq!(call(12).digest(&memory), part);
        assert_ne!(call(16).digest(&memory), all);
    }

    #[test]
    fn what_has_none() {
        let memory = memory();
        assert_eq!(write(0x1000, 0).digest(&memory), None, "nothing was written");
        assert_eq!(write(0x1000, -11).digest(&memory), None, "it failed");
        assert_eq!(write(0x100, 5).digest(&memory), None, "it cannot be read");
        assert_eq!(write(u64::MAX - 2, 5).digest(&memory), None);
        let ours = write(rr_preload::layout::CONTROL, 5);
        assert_eq!(ours.digest(&memory), None);
        let read = sent(libc::SYS_read, [0, 0x1000, 5, 0, 0, 0], 5);
        assert_eq!(read.digest(&memory), None);
    }

    #[test]
    fn the_first_line_is_shown() {
        assert_eq!(
            write(0x1000, 20).first_line(&memory()).as_deref(),
            Some("line\\n")
        );
        assert_eq!(write(0x1000, 3).first_line(&memory()).as_deref(), Some("lin"));
    }
}

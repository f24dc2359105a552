//! `m`, `x`, `M`, `X`: memory.

use rr_tracee::Addr;

use crate::connection::MAX_PACKET;
use crate::hex;
use crate::server::{Answer, Server};
use crate::target::TargetError;

impl Server<'_> {
    /// Reads memory, up to a packet full: perhaps less than was asked for, and at least a byte.
    fn memory(&mut self, rest: &[u8], most: usize) -> Result<Vec<u8>, Answer> {
        let (addr, len) = hex::pair(rest, b',').ok_or_else(Answer::invalid)?;
        if !self.alive {
            return Err(Answer::missing());
        }
        let len = usize::try_from(len).unwrap_or(most).min(most);
        let mut bytes = vec![0; len];
        let read = self.target.read_memory(Addr(addr), &mut bytes).min(len);
        bytes.truncate(read);
        if read == 0 && len != 0 {
            Err(Answer::fault())
        } else {
            Ok(bytes)
        }
    }

    /// `m ADDR,LENGTH`
    pub(super) fn read_memory(&mut self, rest: &[u8]) -> Answer {
        match self.memory(rest, MAX_PACKET / 2) {
            Ok(bytes) => Answer::hex(&bytes),
            Err(answer) => answer,
        }
    }

    /// `x ADDR,LENGTH`: every byte may need an escape.
    pub(super) fn read_memory_binary(&mut self, rest: &[u8]) -> Answer {
        match self.memory(rest, MAX_PACKET / 2 - 1) {
            Ok(bytes) => Answer::Packet([&b"b"[..], &bytes].concat()),
            Err(answer) => answer,
        }
    }

    fn change_memory(&mut self, rest: &[u8], decode: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Answer {
        let Some((place, data)) = hex::split(rest, b':') else {
            return Answer::invalid();
        };
        let (Some((addr, len)), Some(bytes)) = (hex::pair(place, b','), decode(data)) else {
            return Answer::invalid();
        };
        if usize::try_from(len) != Ok(bytes.len()) {
            return Answer::invalid();
        }
        // gdb asks so whether the packet is known.
        if bytes.is_empty() {
            return Answer::ok();
        }
        if !self.alive {
            return Answer::missing();
        }
        match self.target.write_memory(Addr(addr), &bytes) {
            Ok(()) => Answer::ok(),
            Err(e @ (TargetError::Refused(_) | TargetError::Failed(_))) => Answer::said(&e),
            Err(_) => Answer::fault(),
        }
    }

    /// `M ADDR,LENGTH:HEX`
    pub(super) fn write_memory(&mut self, rest: &[u8]) -> Answer {
        self.change_memory(rest, hex::decode)
    }

    /// `X ADDR,LENGTH:BYTES`
    pub(super) fn write_memory_binary(&mut self, rest: &[u8]) -> Answer {
        self.change_memory(rest, |bytes| Some(bytes.to_vec()))
    }
}

//! `qSearch:memory`: gdb's `find`.

use rr_tracee::Addr;

use crate::hex;
use crate::server::{Answer, Server};
use crate::target::{Interrupt, Target};

/// The number of bytes that are read at a time.
const CHUNK: usize = 64 << 10;

impl Server<'_> {
    /// `memory:ADDR;LENGTH;PATTERN`
    pub(super) fn search(&mut self, rest: &[u8]) -> Answer {
        let parsed = rest.strip_prefix(b"memory:").and_then(|rest| {
            let (addr, rest) = hex::split(rest, b';')?;
            let (len, pattern) = hex::split(rest, b';')?;
            Some((Addr(hex::number(addr)?), hex::number(len)?, pattern))
        });
        let Some((addr, len, pattern)) = parsed.filter(|(_, _, pattern)| !pattern.is_empty()) else {
            return Answer::invalid();
        };
        match find(self.target, addr, len, pattern, self.connection) {
            Ok(Some(found)) => Answer::text(format!("1,{:x}", found.0)),
            Ok(None) => Answer::text("0"),
            Err(answer) => answer,
        }
    }
}

/// The first place of `pattern` in the memory. An error if some of that memory cannot be read.
fn find(
    target: &dyn Target,
    addr: Addr,
    len: u64,
    pattern: &[u8],
    interrupt: &mut dyn Interrupt,
) -> Result<Option<Addr>, Answer> {
    let keep = pattern.len() - 1;
    let mut window: Vec<u8> = Vec::new();
    let (mut at, mut left) = (addr, len);
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let old = window.len();
        window.resize(old + wanted, 0);
        let read = target.read_memory(at, &mut window[old..]).min(wanted);
        window.truncate(old + read);
        let start = at.0.wrapping_sub(old as u64);
        if let Some(found) = position(&window, pattern) {
            return Ok(Some(Addr(start.wrapping_add(found as u64))));
        }
        if read < wanted {
            return Err(Answer::fault());
        }
        window.drain(..window.len().saturating_sub(keep));
        at = at + read as u64;
        left -= read as u64;
        if left > 0 && interrupt.is_requested() {
            return Err(Answer::fault());
        }
    }
    Ok(None)
}

fn position(memory: &[u8], pattern: &[u8]) -> Option<usize> {
    let first = pattern.first()?;
    let last = memory.len().checked_sub(pattern.len())?;
    (0..=last).find(|&at| memory[at] == *first && memory[at..].starts_with(pattern))
}

//! Thread ids as packets name them: `TID`, or `pPID.TID` with the multiprocess extension.

use rr_tracee::Tid;

use crate::hex;

/// One, all or any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// `-1`
    All,
    /// `0`
    Any,
    /// This one.
    One(Tid),
}

/// A thread id of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadId {
    /// The process, if it is named.
    pub process: Option<Part>,
    /// The thread.
    pub thread: Part,
}

fn part(text: &[u8]) -> Option<Part> {
    if text == b"-1" {
        return Some(Part::All);
    }
    match i32::try_from(hex::number(text)?).ok()? {
        0 => Some(Part::Any),
        tid => Some(Part::One(Tid(tid))),
    }
}

impl ThreadId {
    /// Reads one.
    pub fn parse(text: &[u8]) -> Option<ThreadId> {
        let Some(text) = text.strip_prefix(b"p") else {
            return Some(ThreadId {
                process: None,
                thread: part(text)?,
            });
        };
        match hex::split(text, b'.') {
            Some((process, thread)) => Some(ThreadId {
                process: Some(part(process)?),
                thread: part(thread)?,
            }),
            None => Some(ThreadId {
                process: Some(part(text)?),
                thread: Part::All,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let one = |n| Part::One(Tid(n));
        let id = |process, thread| Some(ThreadId { process, thread });
        assert_eq!(ThreadId::parse(b"1f"), id(None, one(0x1f)));
        assert_eq!(ThreadId::parse(b"p10.11"), id(Some(one(16)), one(17)));
        assert_eq!(ThreadId::parse(b"p10"), id(Some(one(16)), Part::All));
        assert_eq!(ThreadId::parse(b"p-1.-1"), id(Some(Part::All), Part::All));
        assert_eq!(ThreadId::parse(b"0"), id(None, Part::Any));
        for bad in ["", "p", "p1.", "x", "ffffffff", "-2", "p.1"] {
            assert_eq!(ThreadId::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}

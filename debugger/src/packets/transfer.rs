//! `qXfer`: documents and tables that are read in pieces.

use crate::connection::MAX_PACKET;
use crate::hex;
use crate::server::{Answer, Server};

/// The part of a document that fits into a packet if every byte needs an escape.
const MOST: usize = MAX_PACKET / 2 - 1;

impl Server<'_> {
    /// `OBJECT:read:ANNEX:OFFSET,LENGTH`
    pub(super) fn transfer(&mut self, rest: &[u8]) -> Answer {
        let parts: Vec<&[u8]> = rest.splitn(4, |b| *b == b':').collect();
        let [object, b"read", annex, range] = parts[..] else {
            return Answer::unsupported();
        };
        let Some((offset, len)) = hex::pair(range, b',') else {
            return Answer::invalid();
        };
        let document = match object {
            b"features" if annex == b"target.xml" => Some(self.layout().description().into_bytes()),
            b"features" => None,
            b"threads" => Some(self.threads_document().into_bytes()),
            b"auxv" => Some(self.target.auxv()),
            b"exec-file" => Some(self.target.exec_file().into_bytes()),
            b"siginfo" => self.thread().and_then(|tid| self.target.siginfo(tid)),
            _ => return Answer::unsupported(),
        };
        match document {
            Some(document) => piece(&document, offset, len),
            None => Answer::missing(),
        }
    }
}

/// Part of a document: `m` if more follows, `l` if it is the last.
fn piece(document: &[u8], offset: u64, len: u64) -> Answer {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(document.len());
    let len = usize::try_from(len).unwrap_or(MOST).min(MOST);
    let end = start.saturating_add(len).min(document.len());
    let more = if end < document.len() { b"m" } else { b"l" };
    Answer::Packet([&more[..], &document[start..end]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        let of = |offset, len| piece(b"hello", offset, len);
        assert_eq!(of(0, 2), Answer::text("mhe"));
        assert_eq!(of(2, 3), Answer::text("lllo"));
        assert_eq!(of(5, 9), Answer::text("l"));
        assert_eq!(of(u64::MAX, u64::MAX), Answer::text("l"));
        assert_eq!(of(0, 0), Answer::text("m"));
    }
}

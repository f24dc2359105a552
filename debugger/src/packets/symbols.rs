//! `qSymbol`, `qGetTLSAddr`: symbols that gdb looks up for us, and thread-local variables with their help.

use rr_tracee::Addr;

use crate::hex;
use crate::ids::ThreadId;
use crate::server::{Answer, Server};

impl Server<'_> {
    /// `qSymbol::` (gdb has symbols), `qSymbol:VALUE:NAME` (this is one; no value if it has none).
    pub(super) fn symbol(&mut self, rest: &[u8]) -> Answer {
        let Some((value, name)) = hex::split(rest, b':') else {
            return Answer::invalid();
        };
        if name.is_empty() {
            self.symbols.begin();
        } else if let (Some(value), Some(name)) = (hex::number(value), hex::decode_text(name)) {
            self.symbols.found(&name, Addr(value));
        }
        match self.symbols.wanted() {
            Some(name) => Answer::text(format!("qSymbol:{}", hex::encode(name.as_bytes()))),
            None => Answer::ok(),
        }
    }

    /// `qGetTLSAddr:THREAD,OFFSET,LINK-MAP`
    pub(super) fn thread_local_address(&mut self, rest: &[u8]) -> Answer {
        let parsed = hex::split(rest, b',').and_then(|(id, rest)| {
            let (offset, link_map) = hex::pair(rest, b',')?;
            Some((ThreadId::parse(id)?, offset, Addr(link_map)))
        });
        let Some((id, offset, link_map)) = parsed else {
            return Answer::invalid();
        };
        let Ok(Some(tid)) = self.resolve(id) else {
            return Answer::missing();
        };
        match self.symbols.address(self.target, tid, offset, link_map) {
            Some(addr) => Answer::text(format!("{:x}", addr.0)),
            None => Answer::missing(),
        }
    }
}

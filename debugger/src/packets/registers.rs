//! `g`, `G`, `p`, `P`: registers.

use crate::hex;
use crate::server::{Answer, Server};
use crate::target::RegisterFile;

impl Server<'_> {
    fn register_file(&self) -> Result<(rr_tracee::Tid, RegisterFile), Answer> {
        let tid = self.thread().ok_or_else(Answer::missing)?;
        let file = self.target.registers(tid).map_err(|_| Answer::missing())?;
        Ok((tid, file))
    }

    /// `g`: what is not available shows as `x`.
    pub(super) fn read_registers(&mut self) -> Answer {
        let (_, file) = match self.register_file() {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        let mut text = String::new();
        for register in self.layout().registers() {
            match register.read(&file) {
                Some(bytes) => text.push_str(&hex::encode(&bytes)),
                None => text.push_str(&"xx".repeat(register.len)),
            }
        }
        Answer::text(text)
    }

    /// `p NUMBER`
    pub(super) fn read_register(&mut self, rest: &[u8]) -> Answer {
        let layout = self.layout();
        let number = hex::number(rest).and_then(|n| usize::try_from(n).ok());
        let Some(register) = number.and_then(|n| layout.registers().get(n)) else {
            return Answer::invalid();
        };
        match self.register_file() {
            Ok((_, file)) => match register.read(&file) {
                Some(bytes) => Answer::hex(&bytes),
                None => Answer::text("xx".repeat(register.len)),
            },
            Err(answer) => answer,
        }
    }

    /// `G BYTES`
    pub(super) fn write_registers(&mut self, rest: &[u8]) -> Answer {
        let Some(bytes) = hex::decode(rest) else {
            return Answer::invalid();
        };
        let layout = self.layout();
        if bytes.len() != layout.len() {
            return Answer::invalid();
        }
        self.change_registers(|file| {
            let mut at = 0;
            for register in layout.registers() {
                // Bytes that are not available stay so.
                register.write(file, &bytes[at..]);
                at += register.len;
            }
            true
        })
    }

    /// `P NUMBER=BYTES`
    pub(super) fn write_register(&mut self, rest: &[u8]) -> Answer {
        let Some((number, value)) = hex::split(rest, b'=') else {
            return Answer::invalid();
        };
        let number = hex::number(number).and_then(|n| usize::try_from(n).ok());
        let layout = self.layout();
        let Some(register) = number.and_then(|n| layout.registers().get(n)) else {
            return Answer::invalid();
        };
        let Some(bytes) = hex::decode(value) else {
            return Answer::invalid();
        };
        self.change_registers(|file| bytes.len() == register.len && register.write(file, &bytes))
    }

    fn change_registers(&mut self, change: impl FnOnce(&mut RegisterFile) -> bool) -> Answer {
        let (tid, mut file) = match self.register_file() {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        if !change(&mut file) {
            return Answer::invalid();
        }
        match self.target.set_registers(tid, &file) {
            Ok(()) => Answer::ok(),
            Err(e) => Answer::said(&e),
        }
    }
}

//! `qRcmd` and `qRRCmd`: rr's own commands.
//!
//! `monitor COMMAND` is there for clients without our script. The script's commands travel as
//! `qRRCmd:NAME:TID[:HEX…]` (−1 for no thread) and are answered with text in hexadecimal. Two names are the server's
//! own: `rr-next` says what the next resumption does instead of running the program, `rr-stay` takes that back.

use rr_tracee::Tid;

use super::restart::destination;
use crate::hex;
use crate::server::{Answer, Move, Server};
use crate::target::Restart;

/// An answer that gdb prints: an empty packet would say that there is no such command.
fn printed(text: &str) -> Answer {
    if text.is_empty() {
        Answer::ok()
    } else {
        Answer::hex(text.as_bytes())
    }
}

impl Server<'_> {
    /// `qRcmd,HEX`
    pub(super) fn monitor(&mut self, rest: &[u8]) -> Answer {
        let Some(line) = hex::decode_text(rest) else {
            return Answer::invalid();
        };
        let mut words = line.split_whitespace().map(str::to_owned);
        let Some(name) = words.next() else {
            return Answer::invalid();
        };
        let args: Vec<String> = words.collect();
        let tid = self.thread();
        match self.target.command(&name, tid, &args) {
            Ok(text) if text.is_empty() || text.ends_with('\n') => printed(&text),
            Ok(text) => printed(&(text + "\n")),
            Err(e) => printed(&format!("{e}\n")),
        }
    }

    /// `qRRCmd:NAME:TID[:HEX…]`
    pub(super) fn command(&mut self, rest: &[u8]) -> Answer {
        let mut parts = rest.split(|b| *b == b':');
        let name = parts
            .next()
            .map(String::from_utf8_lossy)
            .unwrap_or_default()
            .into_owned();
        let tid = parts
            .next()
            .and_then(|tid| std::str::from_utf8(tid).ok()?.parse().ok());
        let args: Option<Vec<String>> = parts.map(hex::decode_text).collect();
        let (Some(tid), Some(args)) = (tid, args) else {
            return Answer::invalid();
        };
        let tid = Some(Tid(tid)).filter(|tid| tid.0 > 0);
        match name.as_str() {
            "" => Answer::invalid(),
            "rr-next" => self.next(&args),
            "rr-stay" => {
                self.next_move = None;
                Answer::ok()
            }
            _ => match self.target.command(&name, tid, &args) {
                Ok(text) => Answer::hex(text.as_bytes()),
                Err(e) => Answer::hex(e.to_string().as_bytes()),
            },
        }
    }

    fn next(&mut self, args: &[String]) -> Answer {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let to = match args[..] {
            ["run"] => destination(None),
            ["run", to] => destination(Some(to)),
            ["back"] => Some(Restart::Back),
            ["forward"] => Some(Restart::Forward),
            _ => None,
        };
        let Some(to) = to else {
            return Answer::invalid();
        };
        self.next_move = Some(Move::Restart(to));
        Answer::ok()
    }
}

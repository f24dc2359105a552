//! `H`, `T`, `qC`, `qfThreadInfo`, `qThreadExtraInfo`: threads.

use crate::ids::{Part, ThreadId};
use crate::server::{Answer, Server};

impl Server<'_> {
    /// `HgID`, `HcID`
    pub(super) fn choose_thread(&mut self, rest: &[u8]) -> Answer {
        let Some((operation, id)) = rest.split_first() else {
            return Answer::invalid();
        };
        let Some(id) = ThreadId::parse(id) else {
            return Answer::invalid();
        };
        if operation == &b'g' {
            self.elsewhere = matches!(id.process, Some(Part::One(pid)) if pid != self.target.process());
        }
        let tid = match self.resolve(id) {
            Ok(tid) => tid,
            Err(answer) => return answer,
        };
        match operation {
            b'g' => self.general = tid,
            b'c' => self.stepped = tid,
            _ => return Answer::unsupported(),
        }
        Answer::ok()
    }

    /// `TID`
    pub(super) fn is_thread_alive(&mut self, id: &[u8]) -> Answer {
        match ThreadId::parse(id).map(|id| self.resolve(id)) {
            Some(Ok(Some(_))) => Answer::ok(),
            Some(_) => Answer::missing(),
            None => Answer::invalid(),
        }
    }

    /// `qC`
    pub(super) fn current_thread(&mut self) -> Answer {
        match self.thread() {
            Some(tid) => Answer::text(format!("QC{}", self.id(tid))),
            None => Answer::missing(),
        }
    }

    /// `qfThreadInfo`: all of them at once.
    pub(super) fn first_threads(&mut self) -> Answer {
        let threads = if self.alive {
            self.target.threads()
        } else {
            Vec::new()
        };
        let ids: Vec<String> = threads.iter().map(|thread| self.id(thread.tid)).collect();
        if ids.is_empty() {
            Answer::text("l")
        } else {
            Answer::text(format!("m{}", ids.join(",")))
        }
    }

    /// `qThreadExtraInfo,ID`
    pub(super) fn thread_name(&mut self, id: &[u8]) -> Answer {
        let Some(id) = ThreadId::parse(id) else {
            return Answer::invalid();
        };
        let Ok(Some(tid)) = self.resolve(id) else {
            return Answer::missing();
        };
        let threads = self.target.threads();
        let name = threads
            .iter()
            .find(|thread| thread.tid == tid)
            .map(|thread| thread.name.as_str());
        Answer::hex(name.unwrap_or_default().as_bytes())
    }

    /// The document of `qXfer:threads:read`.
    pub(super) fn threads_document(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\"?>\n<threads>\n");
        for thread in self.target.threads().iter().filter(|_| self.alive) {
            let id = self.id(thread.tid);
            xml.push_str(&format!(
                "<thread id=\"{id}\" name=\"{}\"/>\n",
                quoted(&thread.name)
            ));
        }
        xml.push_str("</threads>\n");
        xml
    }
}

/// Text for an attribute of XML; what XML cannot say becomes a question mark.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        match c {
            '&' => quoted.push_str("&amp;"),
            '<' => quoted.push_str("&lt;"),
            '>' => quoted.push_str("&gt;"),
            '"' => quoted.push_str("&quot;"),
            c if c.is_control() => quoted.push('?'),
            c => quoted.push(c),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a<b>&\"c\u{1}é"), "a&lt;b&gt;&amp;&quot;c?é");
    }
}

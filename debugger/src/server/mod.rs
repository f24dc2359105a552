//! The loop: a packet, its answer, the next packet.
//!
//! The state between packets is here, and the client would describe it in the same way: the threads it chose, the features it
//! negotiated, the points it set. All points are taken away when the client leaves, so that the next one finds the program as
//! the first did.

mod answer;
mod events;
mod motion;
mod next_move;
mod thread_local;

use std::collections::BTreeSet;
use std::rc::Rc;

use rr_tracee::{Addr, Tid};

pub(crate) use answer::Answer;
pub(crate) use next_move::Move;
pub(crate) use thread_local::Symbols;

use crate::connection::{Connection, Message};
use crate::ids::{Part, ThreadId};
use crate::open_files::Files;
use crate::registers::Layout;
use crate::target::{PointKind, Stop, StopOptions, Target};
use crate::{Result, hex};

/// The end of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The client detached.
    Detached,
    /// The client killed the program (as gdb does when its user quits).
    Killed,
    /// The client went away without a word.
    Vanished,
}

/// The features that client and server have agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Features {
    pub multiprocess: bool,
    pub swbreak: bool,
    pub hwbreak: bool,
    pub fork_events: bool,
    pub vfork_events: bool,
    pub exec_events: bool,
}

/// A server for one client.
pub struct Server<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) target: &'a mut dyn Target,
    pub(crate) features: Features,
    /// `!` was said: the connection outlives the program.
    pub(crate) extended: bool,
    /// The thread that registers and memory are about (`Hg`).
    pub(crate) general: Option<Tid>,
    /// `Hg` named another process: a child of a fork, which gdb takes its breakpoints out of before it lets it go.
    pub(crate) elsewhere: bool,
    /// The thread that is stepped (`Hc`).
    pub(crate) stepped: Option<Tid>,
    pub(crate) options: StopOptions,
    pub(crate) points: BTreeSet<(PointKind, Addr, u64)>,
    pub(crate) last_stop: Option<Stop>,
    /// True if there is a program, as far as the client knows.
    pub(crate) alive: bool,
    pub(crate) ended: Option<Ended>,
    /// A move that the next resumption makes instead.
    pub(crate) next_move: Option<Move>,
    pub(crate) files: Files,
    pub(crate) symbols: Symbols,
    layout: Option<Rc<Layout>>,
}

/// Answers a client until it leaves.
pub fn serve(connection: &mut Connection, target: &mut dyn Target) -> Result<Ended> {
    let mut server = Server::new(connection, target);
    let ended = server.run();
    server.remove_points();
    Ok(ended)
}

impl<'a> Server<'a> {
    fn new(connection: &'a mut Connection, target: &'a mut dyn Target) -> Server<'a> {
        Server {
            connection,
            target,
            features: Features::default(),
            extended: false,
            general: None,
            elsewhere: false,
            stepped: None,
            options: StopOptions::default(),
            points: BTreeSet::new(),
            last_stop: None,
            alive: true,
            ended: None,
            next_move: None,
            files: Files::default(),
            symbols: Symbols::default(),
            layout: None,
        }
    }

    fn run(&mut self) -> Ended {
        while let Some(message) = self.connection.next_message() {
            let answer = match message {
                Message::Packet(packet) => {
                    tracing::trace!("gdb: {}", String::from_utf8_lossy(&packet));
                    self.answer(&packet)
                }
                Message::Oversize => Answer::invalid(),
            };
            if let Answer::Packet(content) = answer {
                tracing::trace!("rr: {}", String::from_utf8_lossy(&content));
                self.connection.send(&content);
            }
            // Without the extended protocol there is nothing more to say to a client that gave up the program.
            if let Some(ended) = self.ended
                && !self.extended
            {
                return ended;
            }
        }
        self.ended.unwrap_or(Ended::Vanished)
    }

    /// Takes away what the client has set.
    pub(crate) fn remove_points(&mut self) {
        for (kind, addr, len) in std::mem::take(&mut self.points) {
            if let Err(e) = self.target.remove_point(kind, addr, len) {
                tracing::debug!("a point at {addr} stays: {e}");
            }
        }
    }

    /// Says if it is a thread of the program.
    pub(crate) fn has_thread(&self, tid: Tid) -> bool {
        self.alive && self.target.threads().iter().any(|thread| thread.tid == tid)
    }

    /// The thread that a packet without a thread is about.
    pub(crate) fn thread(&self) -> Option<Tid> {
        let chosen = self.general.filter(|tid| self.has_thread(*tid));
        chosen.or_else(|| self.current())
    }

    /// The thread of the last stop.
    pub(crate) fn current(&self) -> Option<Tid> {
        let first = || self.target.threads().first().map(|thread| thread.tid);
        self.target
            .current()
            .filter(|tid| self.has_thread(*tid))
            .or_else(first)
            .filter(|_| self.alive)
    }

    /// The thread that is meant: `Ok(None)` for all or any; an error if there is no such thread here.
    pub(crate) fn resolve(&self, id: ThreadId) -> std::result::Result<Option<Tid>, Answer> {
        if let Some(Part::One(pid)) = id.process
            && pid != self.target.process()
        {
            return Err(Answer::missing());
        }
        match id.thread {
            Part::One(tid) if self.has_thread(tid) => Ok(Some(tid)),
            Part::One(_) => Err(Answer::missing()),
            Part::All | Part::Any => Ok(None),
        }
    }

    /// A thread id as this client reads it.
    pub(crate) fn id(&self, tid: Tid) -> String {
        if self.features.multiprocess {
            format!("p{:x}.{:x}", self.target.process().0, tid.0)
        } else {
            format!("{:x}", tid.0)
        }
    }

    /// The registers' layout: one for the whole session, as gdb reads the description once.
    pub(crate) fn layout(&mut self) -> Rc<Layout> {
        if let Some(layout) = &self.layout {
            return Rc::clone(layout);
        }
        let state = self.thread().and_then(|tid| self.target.registers(tid).ok());
        let layout = Rc::new(Layout::of(&state.map(|file| file.extended).unwrap_or_default()));
        self.layout = Some(Rc::clone(&layout));
        layout
    }

    /// Shows text to the user: only while the client waits for a stop.
    pub(crate) fn say(&mut self, text: &str) {
        let mut packet = String::from("O");
        packet.push_str(&hex::encode(text.as_bytes()));
        if !text.ends_with('\n') {
            packet.push_str("0a");
        }
        self.connection.send(packet.as_bytes());
    }
}

#[cfg(test)]
mod tests;

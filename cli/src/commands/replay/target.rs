//! A recording as something to debug, at the place that --goto, -p, -f and -e name.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rr_debugger::ReplayTarget;
use rr_replayer::timeline::{Setup, Timeline};
use rr_replayer::{Interrupt, Never, Position, ReplaySession};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_trace::processes::Process;
use rr_tracee::cpus::{Claim, Cpus, bind_thread, set_of};
use rr_tracee::{Backing, Prot, Tid};

use crate::claimed;
use crate::echo::Echo;

/// The process that is debugged, and where debugging begins.
pub struct Start {
    /// The process.
    pub process: Tid,
    /// The event that it begins with: nothing is debugged before.
    pub begin: EventNumber,
    /// The event at which the debugger starts.
    pub at: EventNumber,
}

/// A target, and whether gdb finds here what the recording has of the files that the process has mapped.
pub struct Made {
    /// The target.
    pub target: ReplayTarget,
    /// They are what they were, and no debug information goes along with the recording.
    pub files_are_here: bool,
    /// The CPU that it runs on.
    pub _claim: Claim,
}

/// The process that is first in the recording, from its beginning.
pub fn first(processes: &[Process]) -> Result<Start> {
    match processes.first() {
        Some(first) => Ok(Start {
            process: first.pid,
            begin: first.began,
            at: first.began,
        }),
        None => bail!("the recording holds no process: nothing was flushed before it ended"),
    }
}

/// Makes the target and goes to where debugging begins.
pub fn make(
    reader: Arc<TraceReader>,
    processes: Vec<Process>,
    start: &Start,
    echo: Option<Echo>,
) -> Result<Made> {
    let to = Position::at_event(start.at);
    let made = make_at(reader, processes, start, &to, echo, &mut Never)?;
    made.context("nobody interrupts")
}

/// Makes the target and goes to a place; `None`: interrupted.
pub fn make_at(
    reader: Arc<TraceReader>,
    processes: Vec<Process>,
    start: &Start,
    to: &Position,
    mut echo: Option<Echo>,
    interrupt: &mut dyn Interrupt,
) -> Result<Option<Made>> {
    let claim = claimed::for_replay(&Cpus::survey(), &reader);
    let bound = claim.cpu();
    let shown = Arc::clone(&reader);
    let mut timeline = Timeline::new(Setup {
        reader: Arc::clone(&reader),
        cpu: Some(bound),
        process: start.process,
        begin: start.begin,
        show: Box::new(move |session, replayed| {
            if let Some(echo) = &mut echo
                && let Err(e) = echo.show(session, replayed, &shown)
            {
                tracing::warn!("{e:#}");
            }
        }),
    })?;
    bind_thread(&set_of(&[bound]));
    if !timeline.seek(to, interrupt)? {
        return Ok(None);
    }
    // Debug information of the recording is served like its files.
    let files_are_here =
        reader.debug_files()?.is_empty() && files_are_here(timeline.session(), start.process, &reader);
    Ok(Some(Made {
        target: ReplayTarget::new(timeline, processes),
        files_are_here,
        _claim: claim,
    }))
}

/// Says if the code that the process has mapped is in files of this machine, as it was recorded.
fn files_are_here(session: &ReplaySession, process: Tid, reader: &TraceReader) -> bool {
    let threads = session.threads_of(process);
    let Some(space) = threads.first().and_then(|tid| session.space_of(*tid)) else {
        return true;
    };
    space.iter().all(|mapping| match mapping.backing {
        Backing::File { file, .. } if mapping.prot.has(Prot::EXEC) => {
            let same = || {
                Some(are_same(
                    &mut File::open(&*mapping.name).ok()?,
                    &mut reader.open_file(file).ok()?.reader(),
                ))
            };
            same() == Some(true)
        }
        _ => true,
    })
}

fn are_same(a: &mut impl Read, b: &mut impl Read) -> bool {
    let (mut left, mut right) = (vec![0; 1 << 18], vec![0; 1 << 18]);
    loop {
        let (Ok(n), Ok(m)) = (fill(a, &mut left), fill(b, &mut right)) else {
            return false;
        };
        if left[..n] != right[..m] {
            return false;
        }
        if n == 0 {
            return true;
        }
    }
}

fn fill(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

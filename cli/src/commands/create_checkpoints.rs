//! `rr create-checkpoints`: adds checkpoints to a trace by replaying it.
//!
//! A checkpoint at an event is what the recorder would have stored there (I4). Keeps I5: each gets its name when it is whole
//! and on the disk, so whatever ends the command leaves a trace that is whole, and the next run goes on where this one
//! ended: what is there is not made again.
//!
//! *On the CPU of the recording.* All is replayed there, one stretch after the other; the writer's threads use all CPUs. Stretches
//! between stored checkpoints could be replayed at the same time only where `cpuid` can be intercepted. Elsewhere a program that
//! starts looks at its CPU's number, and keeps it in memory as long as it lives: a stretch that ends in the state that is stored
//! there shows nothing of the processes that have ended before.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::unistd::{AccessFlags, access};
use rr_checkpoint::{Checkpoint, CheckpointWriter, Outcome};
use rr_replayer::{Error as ReplayError, ReplaySession};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;

use crate::{cpu, interrupt, progress, traces};

/// The command line of `rr create-checkpoints`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Add checkpoints to a recording by replaying it",
    long_about = "Add checkpoints to a recording by replaying it, so that `rr replay -g` and going backwards start near \
    every place. They are the ones that `rr record --checkpoint-interval` would have stored at the same events.\n\n\
    Events that have a checkpoint are skipped. The command can be interrupted at any time: what was stored stays, and the same \
    command goes on from there.\n\nExample: rr create-checkpoints -i 1000 -s 50000 -e 60000 trace"
)]
pub struct Options {
    /// A checkpoint every N events; by default every hundredth part of the recording, but at least 1000 events
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    interval: Option<u64>,
    /// The event of the first one (the others follow every N events); by default N
    #[arg(short, long, value_name = "EVENT")]
    start: Option<u64>,
    /// None after this event; by default the last one of the recording
    #[arg(short, long, value_name = "EVENT")]
    end: Option<u64>,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// The least distance that is chosen without `--interval`: a replay of so many events takes some tens of milliseconds.
const DISTANCE_LEAST: u64 = 1000;
/// So many checkpoints are made without `--interval`.
const CHECKPOINTS: u64 = 100;

/// To replay so many events takes longer than to load a checkpoint.
const WORTH_LOADING: u64 = 2000;

/// Captures that wait for the writer: frozen processes, which the replay waits for when there are more.
const QUEUE: usize = 4;

/// The status after ^C, as shells have it.
const INTERRUPTED: u8 = 128 + libc::SIGINT as u8;

impl Options {
    /// The events that are to have a checkpoint, ascending.
    fn events(&self, reader: &TraceReader) -> Result<impl Iterator<Item = EventNumber> + use<>> {
        let last = reader.last_event().0;
        for (name, event) in [("--start", self.start), ("--end", self.end)] {
            if let Some(event) = event
                && (event > last || event == 0)
            {
                bail!("{name} {event}: the recording has the events 1 to {last}");
            }
        }
        let interval = self.interval.unwrap_or((last / CHECKPOINTS).max(DISTANCE_LEAST));
        let end = self.end.unwrap_or(last);
        if let Some(start) = self.start
            && start > end
        {
            bail!("--start {start} comes after --end {end}");
        }
        let start = self.start.unwrap_or(interval);
        let distance = usize::try_from(interval).unwrap_or(usize::MAX);
        Ok((start..=end).step_by(distance).map(EventNumber))
    }
}

/// Cuts events into stretches that one replay goes through: a new one begins where a stored checkpoint saves much of the way.
fn stretches(events: &[EventNumber], stored: &[EventNumber]) -> Vec<Vec<EventNumber>> {
    let mut stretches: Vec<Vec<EventNumber>> = Vec::new();
    for event in events {
        let nearest = stored[..stored.partition_point(|at| at <= event)].last();
        let joins = stretches.last_mut().filter(|stretch| {
            stretch
                .last()
                .is_some_and(|last| nearest.is_none_or(|at| at.0 < last.0 + WORTH_LOADING))
        });
        match joins {
            Some(stretch) => stretch.push(*event),
            None => stretches.push(vec![*event]),
        }
    }
    stretches
}

/// What has been done.
#[derive(Default)]
struct Account {
    written: u64,
    failed: u64,
    /// Events after which there is nothing to store.
    impossible: u64,
    /// A file could not be written: the next one could not either.
    is_full: bool,
}

impl Account {
    /// The writer itself says why one has failed.
    fn add(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome.result {
                Ok(_) => self.written += 1,
                Err(e) => {
                    self.failed += 1;
                    self.is_full |= matches!(e, rr_checkpoint::Error::Io { .. });
                }
            }
        }
    }
}

/// How the replay has come to its end.
#[derive(PartialEq, Eq)]
enum End {
    Done,
    Interrupted,
}

/// What the replays need.
struct Work<'a> {
    reader: &'a Arc<TraceReader>,
    writer: CheckpointWriter,
    cpus: cpu::Cpus,
    bar: indicatif::ProgressBar,
    account: Account,
}

impl Work<'_> {
    /// A session at or before an event.
    fn session_before(&self, event: EventNumber) -> Result<ReplaySession> {
        let bound = cpu::for_replay(&self.cpus, self.reader.header());
        cpu::bind(&self.cpus.all());
        let session = match Checkpoint::nearest(self.reader, event)? {
            Some(mut checkpoint) => {
                checkpoint.set_cpus(self.cpus.set());
                ReplaySession::resume(Arc::clone(self.reader), &checkpoint, Some(bound))?
            }
            None if self.reader.first_event().0 > 1 => bail!(
                "the recording begins with event {}, and no checkpoint before event {event} can be used",
                self.reader.first_event()
            ),
            None => ReplaySession::start(Arc::clone(self.reader), Some(bound))?,
        };
        cpu::bind(&[bound]);
        Ok(session)
    }

    /// Goes through stretches; the writer is given a capture at each of their events.
    fn replay(&mut self, stretches: &[Vec<EventNumber>]) -> Result<End> {
        for stretch in stretches {
            let Some(first) = stretch.first() else { continue };
            let mut session = self.session_before(*first)?;
            for event in stretch {
                while session.last_event() < *event {
                    if interrupt::is_requested() {
                        return Ok(End::Interrupted);
                    }
                    if session.step()?.is_none() {
                        bail!("the recording ends at event {}", session.last_event());
                    }
                }
                self.writer.wait_for_room();
                self.account.add(self.writer.poll_done());
                if self.account.is_full {
                    return Ok(End::Done);
                }
                match session.capture() {
                    Ok(request) => self.account.failed += u64::from(!self.writer.submit(request)),
                    Err(e @ ReplayError::NoTask { .. }) => {
                        self.account.impossible += 1;
                        self.bar.suspend(|| eprintln!("rr: {e}"));
                    }
                    Err(e) => return Err(e.into()),
                }
                self.bar.inc(1);
            }
        }
        Ok(End::Done)
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    rr_recorder::inherited::raise_file_limit();
    // The limit of file sizes is an error like a full disk.
    // SAFETY: setting a disposition to "ignore" runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let reader = traces::open(options.trace.as_deref())?;
    let stored = reader.checkpoints()?;
    let all: Vec<EventNumber> = options.events(&reader)?.collect();
    let events: Vec<EventNumber> = all
        .iter()
        .copied()
        .filter(|event| stored.binary_search(event).is_err())
        .collect();
    let already = all.len() - events.len();
    if events.is_empty() {
        println!("0 checkpoints written, {already} were there already");
        return Ok(ExitCode::SUCCESS);
    }
    let dir = reader.checkpoint_dir();
    access(&dir, AccessFlags::W_OK)
        .with_context(|| format!("cannot write checkpoints into {}", dir.display()))?;
    interrupt::notice();
    let cpus = cpu::survey();
    let writer_options = rr_checkpoint::Options {
        queue: QUEUE,
        cpus: Some(cpus.set()),
        ..Default::default()
    };
    let bar = progress::bar(events.len() as u64, "writing checkpoints");
    let mut work = Work {
        writer: CheckpointWriter::start(dir, reader.header().uuid, writer_options)?,
        reader: &reader,
        cpus,
        bar,
        account: Account::default(),
    };
    let end = work.replay(&stretches(&events, &stored));
    let Work {
        writer,
        bar,
        mut account,
        ..
    } = work;
    let is_interrupted = matches!(end, Ok(End::Interrupted));
    let summary = match is_interrupted {
        true => writer.give_up(),
        false => writer.finish(),
    };
    account.add(summary?.outcomes);
    bar.finish_and_clear();
    println!(
        "{} checkpoints written, {already} were there already",
        account.written
    );
    end?;
    if is_interrupted {
        eprintln!("rr: interrupted; the same command goes on from here");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if account.failed > 0 {
        let left = events.len() as u64 - account.written - account.impossible;
        eprintln!("rr: {left} checkpoints could not be written; the same command tries it again");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_begins_where_a_checkpoint_saves_much() {
        let numbers = |all: &[u64]| all.iter().copied().map(EventNumber).collect::<Vec<_>>();
        let events = numbers(&[10, 20, 5000, 5010, 9000]);
        let cut = |stored: &[u64]| stretches(&events, &numbers(stored));
        assert_eq!(cut(&[]), vec![events.clone()]);
        assert_eq!(
            cut(&[15, 4000, 5005, 9500]),
            [numbers(&[10, 20]), numbers(&[5000, 5010, 9000])]
        );
        assert_eq!(cut(&[8000]), [numbers(&[10, 20, 5000, 5010]), numbers(&[9000])]);
    }
}

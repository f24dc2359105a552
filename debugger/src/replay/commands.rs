//! Our commands: `when`, `checkpoint`, and so on. Their words are those of the original rr, which scripts match.

use rr_replayer::{Error, Position};
use rr_tracee::Tid;

use super::ReplayTarget;
use super::failed::failed;
use crate::target::{Target, TargetError};

/// The answer to commands about the original's ticks.
const NO_TICKS: &str = "rr counts no ticks: it needs no performance counters. A place is an event (`when`, `seek EVENT`), or a place \
                        after one (`checkpoint`, `restart N`).";

impl ReplayTarget {
    /// Carries out a command; the answer is printed.
    pub(super) fn execute(
        &mut self,
        name: &str,
        tid: Option<Tid>,
        args: &[String],
    ) -> Result<String, TargetError> {
        let alive = self.a_thread().is_some();
        match name {
            "when" => Ok(format!("Completed event: {}", self.position().last)),
            "when-end" => Ok(format!(
                "Event at end of recording: {}",
                self.timeline.get_mut().session().end()
            )),
            "when-tid" => {
                let tid = tid.or(self.current());
                Ok(tid.map_or("There is no thread.".into(), |tid| format!("Current tid: {tid}")))
            }
            "when-ticks" | "seek-ticks" => Ok(NO_TICKS.into()),
            "elapsed-time" => {
                let seconds = self.timeline.get_mut().session().time_ns() as f64 / 1e9;
                Ok(format!("Elapsed Time (s): {seconds:.6}"))
            }
            "absolute-time" => {
                let timeline = self.timeline.get_mut();
                let started = timeline.reader().header().started_ns;
                let now = started + timeline.session().time_ns() as i64;
                Ok(format!("Absolute Time (s): {:.6}", now as f64 / 1e9))
            }
            "checkpoint" if !alive => Ok("The program is not being run.".into()),
            "checkpoint" => {
                let location = args.first().cloned().unwrap_or_else(|| "??".into());
                let position = self.position();
                let number = self.places.note(position, location.clone());
                Ok(format!("Checkpoint {number} at {location}"))
            }
            "write-checkpoint" if !alive => Ok("The program is not being run.".into()),
            "write-checkpoint" => self.write_checkpoint(),
            "delete-checkpoint" => Ok(self.delete_checkpoint(args)),
            "info-checkpoints" => Ok(self.list_checkpoints()),
            "info-recording" => {
                let path = self.timeline.get_mut().reader().path().to_owned();
                let path = std::fs::canonicalize(&path).unwrap_or(path);
                Ok(format!("Path of recording: \"{}\"", path.display()))
            }
            "rr-history-push" => {
                let position = self.position();
                self.places.stopped(position);
                Ok(String::new())
            }
            "rr-position" => Ok(self.position().to_string()),
            _ => Err(TargetError::Refused(format!("rr has no command {name}"))),
        }
    }

    fn position(&mut self) -> Position {
        self.timeline.get_mut().position()
    }

    /// Stores a checkpoint of this place (of the recording: not of a throw-away copy) in the trace.
    fn write_checkpoint(&mut self) -> Result<String, TargetError> {
        let last = self.position().last;
        match self.timeline.get_mut().write_checkpoint() {
            Ok(true) => Ok(format!("Checkpoint at event {last} stored in the trace.")),
            Ok(false) => Ok(format!("The checkpoint at event {last} is in the trace already.")),
            Err(e @ Error::InsideInterval { .. }) => Ok(format!(
                "Not stored: {e}. `seek {last}`, then `write-checkpoint`, stores one at the event before."
            )),
            Err(e) => Err(failed(e)),
        }
    }

    fn delete_checkpoint(&mut self, args: &[String]) -> String {
        let Some(text) = args.first() else {
            return "'delete checkpoint' requires an argument".into();
        };
        match text.parse() {
            Ok(number) if self.places.forget(number) => format!("Deleted checkpoint {number}."),
            Ok(number) => format!("No checkpoint number {number}."),
            Err(_) => format!("Invalid checkpoint number {text}."),
        }
    }

    fn list_checkpoints(&mut self) -> String {
        let table = self.places.table();
        let stored = self.timeline.get_mut().stored().to_vec();
        let mut text = match table.is_empty() {
            true => "No checkpoints.\n".to_owned(),
            false => format!("ID\tWhen\tWhere\n{table}"),
        };
        if let (Some(first), Some(last)) = (stored.first(), stored.last()) {
            text += &format!(
                "Stored in the trace: {}, from event {first} to event {last}\n",
                stored.len()
            );
        }
        text
    }
}

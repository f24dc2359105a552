//! The processes of a recording: for `rr ps`, for debuggers, and to find the one that the user means. A recording that ended in an
//! orderly way has a table of them; otherwise its events tell.

use std::sync::Arc;

use rr_tracee::Tid;

use crate::error::Result;
use crate::event::EventNumber;
pub use crate::lineage::{Executed, Process};
use crate::reader::TraceReader;

/// All processes, in the order in which they came into being.
///
/// ```no_run
/// let reader = rr_trace::TraceReader::open("trace".as_ref())?;
/// for process in rr_trace::processes::all(&reader)? {
///     let programs: Vec<&str> = process.executed.iter().map(|e| &*e.path).collect();
///     println!("{}: from event {}: {programs:?}", process.pid, process.began);
/// }
/// # Ok::<(), rr_trace::Error>(())
/// ```
pub fn all(reader: &TraceReader) -> Result<Vec<Process>> {
    match reader.process_table()? {
        Some(all) => Ok(all),
        None => read_all(reader),
    }
}

/// The same, without the table that a recording has at its end: all events are read.
pub fn read_all(reader: &TraceReader) -> Result<Vec<Process>> {
    let mut lineage = reader.lineage();
    for event in reader.events_from(reader.first_event())? {
        lineage.follow_event(&event?);
    }
    Ok(lineage.into_all())
}

/// The first process that executed a program and has this number or, if `name` is none, the first that executed
/// a program of that name; and the event of that.
pub fn that_executed<'a>(all: &'a [Process], name: &str) -> Option<(&'a Process, EventNumber)> {
    let number = name.parse().ok().map(Tid);
    all.iter().find_map(|process| {
        let fits = |executed: &&Arc<Executed>| match number {
            Some(pid) => process.pid == pid,
            None => executed.is_called(name),
        };
        process.executed.iter().find(fits).map(|e| (process, e.at))
    })
}

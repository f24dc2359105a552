//! The command line of `rr dump`.

/// The command line of `rr dump`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Print the events of a recording",
    long_about = "Print the events of a recording.\n\nSPEC is an event number N, a range A-B, or `end` for the \
    last event; without one, all events. The `ticks` of the original rr are always 0 here."
)]
pub struct Options {
    /// Print the system calls before the event that went through the buffer
    #[arg(short = 'b', long)]
    pub(super) syscallbuf: bool,
    /// Print clone, exec and exit
    #[arg(short = 'e', long)]
    pub(super) task_events: bool,
    /// Print the memory that was written
    #[arg(short = 'm', long)]
    pub(super) recorded_metadata: bool,
    /// Print changes of the address space
    #[arg(short = 'p', long)]
    pub(super) mmaps: bool,
    /// One line per event: N TID TYPE TICKS
    #[arg(short, long)]
    pub(super) raw: bool,
    /// Print statistics instead of events
    #[arg(short, long)]
    pub(super) statistics: bool,
    /// Only events of this task
    #[arg(short, long, value_name = "TID")]
    pub(super) tid: Option<i32>,
    /// Print socket addresses that the program was told
    #[arg(long)]
    pub(super) socket_addresses: bool,
    /// One JSON object per line and event
    #[arg(long, conflicts_with_all = ["raw", "statistics"])]
    pub(super) json: bool,
    /// Trace directory or name, and SPECs
    #[arg(value_name = "TRACE|SPEC")]
    pub(super) rest: Vec<String>,
}

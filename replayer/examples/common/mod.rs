//! Code for several examples: opens the trace, finds its first program, and addresses of symbols.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectKind, ObjectSymbol, ReadCache};
use rr_trace::processes::{self, Executed, Process};
use rr_trace::{EventNumber, TraceReader};
use rr_tracee::cpus::{bind_thread, set_of};
use rr_tracee::{Addr, Backing};

use rr_replayer::timeline::{Setup, Timeline};
use rr_replayer::{Never, Position};

/// Any failure.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A program of a recording: the process that executes it, and the event of the exec.
pub struct Program {
    /// The process.
    pub process: Process,
    /// The event of its last `execve`.
    pub begin: EventNumber,
    /// The program's file.
    pub path: String,
}

/// Opens a trace, and finds the first process.
pub fn open(path: &str) -> Result<(Arc<TraceReader>, Program)> {
    let reader = Arc::new(TraceReader::open(Path::new(path))?);
    let process = processes::all(&reader)?
        .into_iter()
        .next()
        .ok_or("no process was recorded")?;
    let last = process.executed.last().ok_or("the process executes nothing")?;
    let Executed { at, path, .. } = &**last;
    let (begin, path) = (*at, path.clone());
    let program = Program { process, begin, path };
    Ok((reader, program))
}

/// A timeline of a program, at an event. It belongs to the calling thread, which is bound to that CPU.
pub fn timeline_at(
    reader: &Arc<TraceReader>,
    program: &Program,
    event: EventNumber,
    cpu: usize,
) -> Result<Timeline> {
    let mut timeline = Timeline::new(Setup {
        reader: Arc::clone(reader),
        cpu: Some(cpu),
        process: program.process.pid,
        begin: program.begin,
        show: Box::new(|_, _| {}),
    })?;
    // Waking a tracee on another CPU takes longer than most of its work.
    bind_thread(&set_of(&[cpu]));
    timeline.seek(&Position::at_event(event), &mut Never)?;
    Ok(timeline)
}

/// The address and the size of a function or variable of the program. The file is read from the trace,
/// so it need not exist on this machine.
pub fn symbol(timeline: &Timeline, name: &str, path: &str) -> Result<(Addr, u64)> {
    let session = timeline.session();
    let threads = session.threads_of(timeline.process());
    let space = threads
        .first()
        .and_then(|tid| session.space_of(*tid))
        .ok_or("the process is not there")?;
    let (start, file) = space
        .iter()
        .find_map(|mapping| match mapping.backing {
            Backing::File { file, offset: 0 } if *mapping.name == *path => Some((mapping.range.start, file)),
            _ => None,
        })
        .ok_or_else(|| format!("{path} is not mapped"))?;
    let cache = ReadCache::new(timeline.reader().open_file(file)?.reader());
    let elf = ElfFile64::<Endianness, _>::parse(&cache)?;
    let found = elf.symbols().find(|s| s.name() == Ok(name) && s.is_definition());
    let found = found.ok_or_else(|| format!("{path} has no symbol {name}"))?;
    // Symbols of executables with a fixed address are addresses. Others are offsets from the first
    // byte.
    let base = match elf.kind() {
        ObjectKind::Executable => 0,
        _ => start.0,
    };
    Ok((Addr(base + found.address()), found.size()))
}

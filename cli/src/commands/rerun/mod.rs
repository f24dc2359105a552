//! `rr rerun`: replays a stretch of a recording and prints registers at its events and instructions.

mod shown;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use rr_replayer::diversion::{Diversion, Diverted};
use rr_replayer::single_steps::{Step, step_instruction};
use rr_replayer::stretch::Stored;
use rr_replayer::{Never, ReplaySession};
use rr_trace::event::EventNumber;
use rr_tracee::cpus::{Cpus, bind_thread, set_of};
use rr_tracee::{Addr, ExtendedState, Registers, Tid};
use shown::{Moment, Shown};

use crate::claimed;
use crate::traces;

/// Return address of a function that is called by `--function`: nothing is mapped there.
const NOWHERE: u64 = 0;

/// Bytes below the stack pointer that a function may use (the red zone of the x86-64 ABI).
const RED_ZONE: u64 = 128;

/// The command line of `rr rerun`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Replay a stretch of a recording and print registers",
    long_about = "Replay a stretch of a recording, and print registers on standard output: after each event, after each \
    instruction, or both, one line each. The replay starts at the nearest checkpoint.\n\nREGS is a list of names with \
    commas between: event, icount (the instructions since the beginning of the stretch), ip, flags, gp_x16 (rax, rcx, rdx, \
    rbx, rsp, rbp, rsi, rdi, r8 to r15), xmm_x16, ymm_x16, xinuse (the components of the extended state that are in use), \
    or single registers: rax, r8, rip, eflags, fs_base …"
)]
pub struct Options {
    /// Begin after EVENT; from the first event on if omitted
    #[arg(
        short = 's',
        long,
        value_name = "EVENT",
        default_value_t = 0,
        hide_default_value = true
    )]
    trace_start: u64,
    /// End after EVENT; at the end of the recording if omitted
    #[arg(short = 'e', long, value_name = "EVENT")]
    trace_end: Option<u64>,
    /// At the beginning of the stretch, call the function at ADDR in a copy of the program, and show that instead
    #[arg(short = 'f', long, value_name = "ADDR", value_parser = address)]
    function: Option<u64>,
    /// Print these registers after each instruction
    #[arg(long, value_name = "REGS")]
    singlestep: Option<Shown>,
    /// Print these registers after each event
    #[arg(long, value_name = "REGS")]
    event_regs: Option<Shown>,
    /// Print the values only, as bytes: 8 each, 16 of an xmm and 32 of a ymm register, the lowest first
    #[arg(short, long)]
    raw: bool,
    /// Accepted for compatibility: rr binds replay to one CPU
    #[arg(short = 'u', long, hide = true)]
    cpu_unbound: bool,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// An address, as people and scripts write it.
fn address(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not an address"))
}

/// Prints what is to be shown.
struct Printer {
    out: io::BufWriter<io::Stdout>,
    is_raw: bool,
    /// Number of instructions that have been executed.
    count: u64,
}

impl Printer {
    fn print(
        &mut self,
        shown: &Shown,
        event: EventNumber,
        regs: Option<Registers>,
        extended: impl FnOnce() -> Option<ExtendedState>,
    ) -> io::Result<()> {
        // The task is gone after its last event.
        let Some(regs) = regs else { return Ok(()) };
        let extended = shown.needs_extended().then(extended).flatten();
        let moment = Moment {
            event,
            count: self.count,
            regs,
            extended,
        };
        match self.is_raw {
            true => self.out.write_all(&shown.bytes(&moment)),
            false => writeln!(self.out, "{}", shown.line(&moment)),
        }
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    rr_recorder::inherited::raise_file_limit();
    let reader = traces::open(options.trace.as_deref())?;
    let (start, last) = (EventNumber(options.trace_start), reader.last_event());
    let end = options.trace_end.map_or(last, EventNumber);
    for (name, event) in [("--trace-start", start), ("--trace-end", end)] {
        if event > last {
            bail!("{name} {event}: the last event of the recording is {last}");
        }
    }
    if end < start {
        bail!("the stretch ends (--trace-end {end}) before it begins (--trace-start {start})");
    }
    let cpus = Cpus::survey();
    let claim = claimed::for_replay(&cpus, &reader);
    let bound = claim.cpu();
    let stored = Stored::new(Arc::clone(&reader), cpus.set())?;
    let near = stored.session_near(start, |at| stored.session(at, Some(bound)))?;
    let mut session = near.session;
    bind_thread(&set_of(&[bound]));
    let mut printer = Printer {
        out: io::BufWriter::new(io::stdout()),
        is_raw: options.raw,
        count: 0,
    };
    while session.last_event() < start && session.step()?.is_some() {}
    if let Some(function) = options.function {
        call(options, session, function, &mut printer)?;
        printer.out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    while session.last_event() < end {
        if let Some(shown) = &options.singlestep {
            while let Step::Executed(tid) = step_instruction(&mut session)? {
                printer.count += 1;
                let (event, regs) = (session.last_event(), session.registers(tid));
                printer.print(shown, event, regs, || session.extended_state(tid))?;
            }
        }
        let Some(replayed) = session.step()? else { break };
        if let Some(shown) = &options.event_regs {
            let (event, tid) = (replayed.event.number, replayed.event.tid);
            let regs = session.registers(tid);
            printer.print(shown, event, regs, || session.extended_state(tid))?;
        }
    }
    printer.out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Calls a function as the task of the next event, outside of the recording.
fn call(options: &Options, mut session: ReplaySession, function: u64, printer: &mut Printer) -> Result<()> {
    let event = session.last_event();
    let tid = session.next_event()?.map(|next| next.tid);
    let Some((tid, regs)) = tid.and_then(|tid| Some((tid, session.registers(tid)?))) else {
        bail!("no task runs after event {event}");
    };
    let Some(extended) = session.extended_state(tid) else {
        bail!("task {tid} has no state that a function could be called with");
    };
    let mut diversion = Diversion::new(session, tid)?;
    let rsp = ((regs.rsp - RED_ZONE) & !15) - 8;
    diversion.write_memory(tid, Addr(rsp), &NOWHERE.to_le_bytes())?;
    let called = Registers {
        rip: function,
        rsp,
        orig_rax: u64::MAX,
        ..regs
    };
    diversion.set_registers(tid, &called, &extended)?;
    loop {
        let diverted = diversion.run(tid, true, &mut Never)?;
        let regs = diversion.session().registers(tid);
        let has_returned = regs.is_some_and(|regs| regs.rip == NOWHERE);
        match diverted {
            Diverted::Stepped => {
                printer.count += 1;
                if let Some(shown) = &options.singlestep {
                    printer.print(shown, event, regs, || diversion.session().extended_state(tid))?;
                }
                if has_returned {
                    if let Some(shown) = &options.event_regs {
                        printer.print(shown, event, regs, || diversion.session().extended_state(tid))?;
                    }
                    return Ok(());
                }
            }
            Diverted::Signal(signal) => return ended(tid, regs, &format!("got signal {signal}")),
            Diverted::Exited(_) => return ended(tid, regs, "exited"),
            Diverted::Breakpoint(_) | Diverted::Interrupted => {}
        }
    }
}

/// The function did not return.
fn ended(tid: Tid, regs: Option<Registers>, why: &str) -> Result<()> {
    let at = regs.map_or(String::new(), |regs| format!(" at {:#x}", regs.rip));
    bail!("the function did not return: task {tid} {why}{at}")
}

//! `rr record`: records a program, with checkpoints if asked for.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, FromArgMatches};
use rr_checkpoint::{Budget, CheckpointWriter, KeepLast, Maker, Window};
use rr_recorder::{
    Capture, Command, End, Inherited, Processor, RecordSession, Schedule, Terminator, chaos, cores, launch,
    outer_seccomp,
};
use rr_trace::event::EventNumber;
use rr_trace::{Header, TraceWriter, WriterOptions};
use rr_tracee::cpuid;
use rr_tracee::cpus::{Claim, Cpus, bind_thread, set_of};
use rr_tracee::tsc::Measurement;

use crate::budget::BudgetOption;
use crate::claimed;
use crate::commands::snapshot;
use crate::compatibility::{Nested, PortableOption, RecordOptions};
use crate::global::Global;
use crate::interval::Checkpoints;
use crate::outcome::Outcome;
use crate::{started, traces};

/// The program could not be started (`EX_UNAVAILABLE` of `<sysexits.h>`).
const UNAVAILABLE: u8 = 69;
/// The recording failed (`EX_SOFTWARE`).
const FAILED: u8 = 70;
/// The time limit was reached (timeout(1)).
pub const TIMED_OUT: u8 = 124;

/// The command line of `rr record`.
#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true)]
#[command(about = "Record a program")]
#[command(long_about = "Record a program and all processes that it starts.\n\n\
    The exit status is the program's own; if a signal killed it, rr dies of the same signal. 69: the program could \
    not be started. 70: the recording failed; what was recorded until then can be replayed.\n\n\
    SIGUSR1 to rr packs what there is, while the program goes on (rr snapshot).\n\nExample: rr record ./server --test")]
pub struct Options {
    /// Write a checkpoint every so often, so that replay can start there: about every second, but at a cost of at most a twentieth
    /// of the program's time (auto); after N events and buffered calls (N); after a time in which the program
    /// does not sleep (Ns, Nms); or never (none)
    #[arg(long, value_name = "auto|N|Ns|Nms|none", default_value = "auto")]
    checkpoint_interval: Checkpoints,
    /// When the checkpoint writer falls behind, let the program wait instead of skipping checkpoints
    #[arg(long)]
    checkpoint_wait: bool,
    #[command(flatten)]
    checkpoint_budget: BudgetOption,
    /// Be a flight recorder: keep about the last TIME (90s, 10m, 2h) or SIZE (500M, 2G) of the recording, and delete what is older while
    /// the program runs. What stays can be replayed from its first checkpoint on
    #[arg(long, value_name = "TIME|SIZE", value_parser = crate::keep_last::parse)]
    keep_last: Option<KeepLast>,
    /// Put the trace into this directory, which must not exist
    #[arg(short = 'o', long, value_name = "DIR")]
    output_trace_dir: Option<PathBuf>,
    /// Write the trace directory's path to this file descriptor
    #[arg(short = 'p', long, value_name = "FD")]
    print_trace_dir: Option<i32>,
    /// Wait for all processes, not just the first
    #[arg(short = 'w', long)]
    wait: bool,
    /// Set a variable in the program's environment
    #[arg(short = 'v', long = "env", value_name = "NAME=VALUE")]
    env: Vec<OsString>,
    /// Do not buffer system calls in the program: every call is traced
    #[arg(short = 'n', long)]
    no_syscall_buffer: bool,
    /// Schedule at random, to find bugs that need an unusual order: priorities, the lengths of turns, who goes
    /// first, intervals in which only high priorities run, 1 to 8 CPUs
    #[arg(short = 'h', long)]
    chaos: bool,
    /// The seed of --chaos (and --chaos itself): the same seed makes the same decisions
    #[arg(long, value_name = "N")]
    chaos_seed: Option<u64>,
    /// Let another task run after every event, if one can
    #[arg(short = 's', long)]
    always_switch: bool,
    /// The longest turn of a task while others are ready. The original rr counts branches; here 5,000 of these ticks
    /// are one event
    #[arg(short = 'c', long, value_name = "N", default_value_t = 2_500_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    num_cpu_ticks: u64,
    /// Tell the program that the machine has N CPUs (1 to 128)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=128))]
    num_cores: Option<u16>,
    /// Bind recorder and program to this CPU: a number, or `any` (the one with the fewest recordings and replays under way)
    #[arg(long, value_name = "CPU", default_value = "any")]
    bind_to_cpu: String,
    /// Accepted for compatibility: recorder and program share one CPU all the same
    #[arg(short = 'u', long, hide = true)]
    cpu_unbound: bool,
    /// Drop this signal (name or number) instead of delivering it
    #[arg(short = 'i', long, value_name = "SIG", value_parser = crate::signals::parse)]
    ignore_signal: Option<i32>,
    /// Go on when this signal (name or number) would end the program
    #[arg(short = 't', long, value_name = "SIG", value_parser = crate::signals::parse)]
    continue_through_signal: Option<i32>,
    /// At the end, print what the recording cost: stops, which system calls were traced and why, which call sites
    /// cannot be rewritten
    #[arg(long)]
    stats: bool,
    /// End the recording after so long (90s, 5m, 2h), with the program where it is then. The exit status is that of
    /// timeout(1): 124
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    timeout: Option<Duration>,
    /// Write how the recording ended into this file, as JSON: exit code or signal, and which processes crashed
    #[arg(long, value_name = "FILE")]
    outcome: Option<PathBuf>,
    /// The trace's directory may be there already, and is empty.
    #[arg(skip)]
    is_recycled: bool,
    /// As `outcome`, for whoever has the file open.
    #[arg(skip)]
    outcome_file: Option<File>,
    #[command(flatten)]
    portable: PortableOption,
    #[command(flatten)]
    compatibility: RecordOptions,
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROG")]
    command: Vec<OsString>,
}

/// Events in a turn, from ticks.
const TICKS_PER_EVENT: u64 = 5_000;

impl Options {
    /// Parses the words behind `rr record`, for a test of `rr ci`: the trace's directory may be there already, and is empty. How the
    /// recording ended is written into `outcome`.
    pub fn of_test(words: Vec<OsString>, outcome: File) -> Result<Options> {
        let command = Options::augment_args(clap::Command::new("rr record").no_binary_name(true));
        let options = Options::from_arg_matches(&command.try_get_matches_from(words)?)?;
        Ok(Options {
            is_recycled: true,
            outcome_file: Some(outcome),
            ..options
        })
    }

    /// The seed of chaos mode.
    fn chosen_seed(&self) -> Result<Option<u64>> {
        match self.chaos_seed {
            None if self.chaos => random_seed().map(Some),
            given => Ok(given),
        }
    }

    /// Chooses the CPU of recorder and program; it is claimed as long as the recording goes on.
    fn choose_cpu(&self, cpus: &mut Cpus) -> Result<Claim> {
        if self.cpu_unbound {
            tracing::warn!("recorder and program share one CPU: this rr ignores --cpu-unbound");
        }
        match self.bind_to_cpu.as_str() {
            "any" | "p-core" => {
                let claim = Claim::least(cpus);
                if claim.is_shared() {
                    // Not for the terminal, which is the program's.
                    tracing::info!("{}", claimed::shared(&claim, claimed::ALL_TAKEN));
                }
                cpus.bound = claim.cpu();
                Ok(claim)
            }
            number => {
                let wanted = number
                    .parse()
                    .ok()
                    .filter(|cpu| cpus.all().contains(cpu))
                    .with_context(|| {
                        format!(
                            "--bind-to-cpu {number}: rr may use the CPUs {:?}, or say `any`",
                            cpus.all()
                        )
                    })?;
                cpus.bound = wanted;
                Ok(Claim::of(wanted))
            }
        }
    }
}

/// A seed of chaos mode.
pub fn random_seed() -> Result<u64> {
    let mut bytes = [0; 4];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("reading random bytes")?;
    Ok(u32::from_ne_bytes(bytes).into())
}

fn environment(extra: &[OsString]) -> Result<Vec<(OsString, OsString)>> {
    let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let mut set = |name: OsString, value: OsString| {
        env.retain(|(n, _)| *n != name);
        env.push((name, value));
    };
    for (name, value) in launch::ENVIRONMENT {
        set(name.into(), value.into());
    }
    for pair in extra {
        let bytes = pair.as_bytes();
        let Some(n) = bytes.iter().position(|&b| b == b'=').filter(|&n| n > 0) else {
            bail!("--env wants NAME=VALUE, not {}", pair.to_string_lossy());
        };
        set(
            OsString::from_vec(bytes[..n].to_vec()),
            OsString::from_vec(bytes[n + 1..].to_vec()),
        );
    }
    Ok(env)
}

/// A new trace: in the directory that the user names, or else in the first free one of the program's.
fn create(
    dir: Option<&Path>,
    program: &OsStr,
    header: &Header,
    options: &WriterOptions,
) -> Result<TraceWriter> {
    if let Some(dir) = dir {
        return Ok(TraceWriter::create(dir, header, options)?);
    }
    for n in 0.. {
        match TraceWriter::create(&traces::numbered(program, n)?, header, options) {
            // There before us, or made a moment ago by another rr.
            Err(rr_trace::Error::Exists { .. }) => {}
            other => return Ok(other?),
        }
    }
    bail!("no free name for a trace")
}

/// The use that the user has of a recording that failed.
fn epitaph(dir: &Path, written: EventNumber) -> String {
    if written == EventNumber(0) {
        return format!("nothing was recorded in {}", dir.display());
    }
    format!(
        "recorded up to event {written} can be replayed: rr replay {}",
        dir.display()
    )
}

/// Does what the user wants inside another recording.
fn nested(options: &Options) -> Result<ExitCode> {
    match options.compatibility.nested {
        Nested::Ignore => Ok(started::replace_by(&options.command)),
        Nested::Default | Nested::Error => bail!(
            "this is a recorded program already, which rr cannot record once more; `rr record --nested=ignore` runs {} as a \
             part of the recording",
            options.command[0].to_string_lossy()
        ),
        Nested::Detach | Nested::Release => bail!(
            "a recorded program cannot leave its recording here; `--nested=ignore` makes it a part of the recording"
        ),
    }
}

/// Runs the command.
pub fn run(options: Options, global: &Global, measurement: Measurement) -> Result<ExitCode> {
    if std::env::var_os("RUNNING_UNDER_RR").is_some() {
        return nested(&options);
    }
    record(options, global, measurement).map(ExitCode::from)
}

/// Records a program. Returns the exit status for rr, which is the program's; or rr dies of the signal that killed the program.
/// The `measurement` of the time-stamp counter began when rr began, so that nobody has to wait for its end.
pub fn record(options: Options, global: &Global, measurement: Measurement) -> Result<u8> {
    if options.checkpoint_budget.is_given() && options.checkpoint_interval == Checkpoints::Never {
        bail!("--checkpoint-budget is about checkpoints, and there are none with --checkpoint-interval none");
    }
    if options.keep_last.is_some() && options.checkpoint_interval == Checkpoints::Never {
        bail!(
            "--keep-last needs checkpoints, because replay begins at the first that is left; there are none with \
             --checkpoint-interval none"
        );
    }
    let hidden = options.compatibility.hidden();
    let portable = options.portable.portable;
    let is_restricted = !hidden.is_empty() || portable.is_some();
    if is_restricted {
        cpuid::intercept_all();
    }
    if is_restricted && !cpuid::is_intercepted() {
        tracing::warn!(
            "this processor cannot be made to trap on CPUID: features are hidden where rr finds the instruction by a file's unwind \
             tables, and nowhere else"
        );
    }
    let program = options.command[0].clone();
    let env = environment(&options.env)?;
    let path_var = env.iter().find(|(n, _)| n == "PATH").map(|(_, v)| v);
    if let Err(e) = launch::resolve(&program, path_var) {
        eprintln!("rr: {e}");
        return Ok(UNAVAILABLE);
    }
    // Threads inherit the signal mask: before the first of them.
    let inherited = Inherited::take(started::broken_pipe_ignored());
    let mut cpus = Cpus::survey();
    let _claim = options.choose_cpu(&mut cpus)?;
    let chaos = options.chosen_seed()?;
    let background = match cpus.others() {
        others if others.is_empty() => vec![cpus.bound],
        others => others,
    };
    // Once, because the kernel takes long to move a thread to another CPU. The writers bind themselves to the others.
    bind_thread(&set_of(&[cpus.bound]));
    let mut cpuid = cpuid::Table::of_this_cpu();
    if !cpuid.has_extended_state() {
        bail!(
            "this processor has no XSAVE, or the kernel does not use it, and rr needs it: rr doctor says more"
        );
    }
    cpuid.hide(&cpuid::Hidden::UNRECORDED);
    cpuid.hide(&hidden);
    if let Some(level) = portable {
        cpuid.restrict(level);
    }

    let environ = env
        .iter()
        .map(|(n, v)| OsString::from_vec([n.as_bytes(), b"=", v.as_bytes()].concat()))
        .collect();
    let cwd = std::env::current_dir().context("the working directory is gone")?;
    let mut header =
        Header::for_this_machine(env!("CARGO_PKG_VERSION"), options.command.clone(), cwd, environ)?;
    header.bound_cpu = Some(cpus.bound as u32);
    header.cpuid_faulting = cpuid::is_intercepted();
    header.cpuid = cpuid.clone();
    header.portable = portable;
    header.checkpoint_interval = options.checkpoint_interval.interval().map(|i| i.to_string());
    header.chaos_seed = chaos;
    header.refused = outer_seccomp::survey()?;
    let store = traces::store();
    // A trace elsewhere still links its files from the store, if that is on the same file system.
    let writer_options = WriterOptions {
        store: Some(store),
        trims: options.keep_last.is_some(),
        is_recycled: options.is_recycled,
        // The trace of a test that passes is removed, and one that is kept is packed.
        compresses_end: !options.is_recycled,
        background_cpus: Some(set_of(&background)),
        cpus_at_end: Some(cpus.set()),
        ..WriterOptions::default()
    };
    let writer = create(
        options.output_trace_dir.as_deref(),
        &program,
        &header,
        &writer_options,
    )?;
    let dir = writer.path().to_owned();
    let progress = writer.progress();
    let capture = match options.checkpoint_interval {
        Checkpoints::Every(interval) => {
            // No checkpoint is there before the events that lead to it.
            let options_of_writer = rr_checkpoint::Options {
                trace: Some(writer.progress()),
                maker: Maker::Recorder,
                cpus: Some(set_of(&background)),
                cpus_at_end: Some(cpus.set()),
                window: options
                    .keep_last
                    .zip(writer.trimmer())
                    .map(|(last, trimmer)| Window { last, trimmer }),
                budget: Some(Budget {
                    bytes: options.checkpoint_budget.bytes(&dir)?,
                    kept: Vec::new(),
                }),
                ..Default::default()
            };
            let writer = CheckpointWriter::start(writer.checkpoint_dir(), header.uuid, options_of_writer)?;
            let most_bytes = options.keep_last.and_then(KeepLast::bytes_to_checkpoint);
            Capture::every(interval, writer, options.checkpoint_wait).with_most_bytes(most_bytes)
        }
        Checkpoints::Never => Capture::off(),
    };

    let cores = options.num_cores.map(usize::from).or(chaos.map(chaos::cores));
    let turn_events = if options.always_switch {
        1
    } else {
        (options.num_cpu_ticks / TICKS_PER_EVENT).max(1)
    };
    let session_options = rr_recorder::Options {
        wait_for_all: options.wait,
        check_maps: global.check_cached_mmaps,
        affinity: cores.map_or_else(|| cpus.mask(), cores::mask),
        cores,
        ignored_signal: options.ignore_signal,
        survived_signal: options.continue_through_signal,
        mark_stdio: global.mark_stdio,
        schedule: Schedule { turn_events, chaos },
        // Each call is an event if it matters which call others come after.
        buffered: !options.no_syscall_buffer && chaos.is_none() && turn_events > 1,
        measurement,
        processor: Processor {
            answers: cpuid,
            portable,
        },
        time_limit: options.timeout,
    };
    let command = Command {
        args: options.command.clone(),
        env,
        inherited,
    };
    let mut session = match RecordSession::start(&command, session_options, writer, capture) {
        Ok(session) => session,
        Err(e) => {
            // Nothing was recorded: nothing is kept.
            let _ = std::fs::remove_dir_all(&dir);
            let fault = matches!(
                e,
                rr_recorder::Error::Start { .. } | rr_recorder::Error::Capability { .. }
            );
            eprintln!("rr: {}", crate::error_text::of(&e.into()));
            return Ok(if fault { UNAVAILABLE } else { FAILED });
        }
    };
    if std::io::stdout().is_terminal() {
        println!("rr: Saving execution to trace directory `{}'.", dir.display());
    }
    if options.output_trace_dir.is_none() {
        traces::set_latest(&dir);
    }
    if let Some(fd) = options.print_trace_dir {
        print_dir(fd, &dir);
    }
    let end = {
        let (dir, progress) = (dir.clone(), progress.clone());
        move || {
            eprintln!("rr: the recording does not end, and is given up");
            eprintln!("rr: {}", epitaph(&dir, progress.written()));
            // SAFETY: ends the process without a look at its other threads. The kernel kills the tracees.
            unsafe { libc::_exit(FAILED.into()) }
        }
    };
    let snapshot = {
        let dir = dir.clone();
        move || snapshot::start(&dir)
    };
    let terminator = Terminator::start(session.root(), end, snapshot);
    let result = terminator.and_then(|terminator| {
        let end = session.run()?;
        terminator.program_ended();
        Ok(end)
    });
    let finished = match result {
        Ok(end) => session.finish(end).map(|summary| (end, summary)),
        Err(e) => {
            session.abort();
            Err(e)
        }
    };
    let (end, summary) = match finished {
        Ok(finished) => finished,
        Err(e) => {
            eprintln!("rr: the recording failed: {}", crate::error_text::of(&e.into()));
            eprintln!("rr: {}", epitaph(&dir, progress.written()));
            return Ok(FAILED);
        }
    };
    let failed = summary.failed_checkpoints;
    if failed > 1 {
        tracing::warn!("{failed} checkpoints in all could not be written");
    }
    if options.stats {
        for line in summary.stats.to_string().lines() {
            eprintln!("rr: {line}");
        }
    }
    let outcome = Outcome::new(end, &summary);
    if let Some(seed) = chaos.filter(|_| outcome.failure().is_some()) {
        eprintln!("rr: Chaos seed {seed} (repeat with --chaos-seed {seed})");
    }
    if let Some(path) = &options.outcome {
        let written = File::create(path).and_then(|file| outcome.write(file));
        written.with_context(|| format!("cannot write the outcome into {}", path.display()))?;
    }
    if let Some(file) = options.outcome_file {
        outcome.write(file).context("cannot write the outcome")?;
    }
    Ok(match end {
        End::Program(status) => end_like(status),
        End::TimeLimit => {
            eprintln!("rr: the time limit is reached: the recording ends here");
            TIMED_OUT
        }
    })
}

fn print_dir(fd: i32, dir: &std::path::Path) {
    let mut line = dir.as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    // SAFETY: writes `line` to a descriptor that the user gave us; an error is theirs to see by the missing line.
    unsafe { libc::write(fd, line.as_ptr().cast(), line.len()) };
}

/// Exits as the program did: with its status, or by its signal (without another core dump).
pub fn end_like(status: i32) -> u8 {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        // SAFETY: plain numbers; a set of one signal on our stack.
        unsafe {
            let none = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            libc::setrlimit(libc::RLIMIT_CORE, &none);
            libc::signal(signal, libc::SIG_DFL);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
            libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
            libc::raise(signal);
        }
        return 128 + signal as u8;
    }
    libc::WEXITSTATUS(status) as u8
}

//! `rr traceinfo`: what is known about a recording, as JSON.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use rr_tracee::cpuid::CpuidEntry;
use serde_json::json;

use crate::traces;

/// The command line of `rr traceinfo`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let reader = traces::open(options.trace.as_deref())?;
    let header = reader.header();
    let mut checkpoints = super::checkpoints::list::json(&reader)?;
    let lossy = |s: &std::ffi::OsString| s.to_string_lossy().into_owned();
    // Leaf, subleaf (`eax` and `ecx` before the instruction), and the four registers after it.
    let record = |entry: &CpuidEntry| json!([&[entry.leaf, entry.sub][..], &entry.answer].concat());
    let status = reader.exit_status();
    let info = json!({
        "path": reader.path(),
        "uuid": header.uuid_string(),
        "rrVersion": header.program_version,
        "startedNs": header.started_ns,
        "program": header.args.iter().map(lossy).collect::<Vec<_>>(),
        "cwd": header.cwd,
        "environ": header.environ.iter().map(lossy).collect::<Vec<_>>(),
        "uname": { "sysname": header.uname.sysname, "nodename": header.uname.nodename, "release": header.uname.release,
                   "version": header.uname.version, "machine": header.uname.machine },
        "cpu": header.cpu_model,
        "cpuidFaulting": header.cpuid_faulting,
        "cpuHidden": reader.hides_cpu(),
        "cpuidRecords": header.cpuid.entries().iter().map(record).collect::<Vec<_>>(),
        "portable": header.portable.map(|level| level.name()),
        "bindToCpu": header.bound_cpu,
        "chaosMode": header.chaos_seed.is_some(),
        "chaosSeed": header.chaos_seed,
        "checkpointInterval": header.checkpoint_interval,
        "refusedCalls": header.refused.keys().map(|n| rr_tracee::syscalls::name(*n).into_owned()).collect::<Vec<_>>(),
        "firstEvent": reader.first_event().0,
        "events": reader.last_event().0,
        // Unknown if an incomplete trace is damaged as well.
        "bufferedCalls": reader.buffered_calls().ok(),
        "complete": reader.is_complete(),
        "exitCode": status.filter(|s| libc::WIFEXITED(*s)).map(|s| libc::WEXITSTATUS(s)),
        "signal": status.filter(|s| libc::WIFSIGNALED(*s)).map(|s| libc::WTERMSIG(s)),
        "tornBytes": reader.torn_bytes(),
        "checkpoints": checkpoints["checkpoints"].take(),
        "checkpointTotals": checkpoints["totals"].take(),
    });
    println!("{}", serde_json::to_string_pretty(&info)?);
    Ok(ExitCode::SUCCESS)
}

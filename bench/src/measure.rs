//! Running a command for its time, and small statistics.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Cost of one run.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Wall time in seconds.
    pub seconds: f64,
    /// CPU time of all its processes, in seconds.
    pub cpu: f64,
    /// The largest resident size of a process of the run, in bytes (`getrusage(2)`, `ru_maxrss`).
    pub resident: u64,
}

/// Which CPUs a run may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cpus {
    /// All that we may use.
    All,
    /// The one that we are on, as rr chooses its own.
    One,
}

/// Runs a command line in `cwd` on all CPUs, output discarded; it must succeed.
pub fn time(program: &[OsString], cwd: &Path) -> Result<Cost> {
    time_on(Cpus::All, program, cwd)
}

/// The same on the CPUs that are said.
pub fn time_on(cpus: Cpus, program: &[OsString], cwd: &Path) -> Result<Cost> {
    let [name, args @ ..] = program else {
        bail!("an empty command line")
    };
    let mut command = Command::new(name);
    command
        .args(args)
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if cpus == Cpus::One {
        // SAFETY: the closure calls only async-signal-safe functions and allocates nothing.
        unsafe { command.pre_exec(bind_to_this_cpu) };
    }
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let mut stderr = Vec::new();
    if let Some(pipe) = &mut child.stderr {
        std::io::Read::read_to_end(pipe, &mut stderr).context("reading the error output")?;
    }
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: our own child, not waited for yet; both pointers are to live variables.
    let pid = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    let seconds = start.elapsed().as_secs_f64();
    if pid < 0 || status != 0 {
        bail!(
            "{command:?} ended with wait status {status}: {}",
            String::from_utf8_lossy(&stderr)
        );
    }
    let time = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    Ok(Cost {
        seconds,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        resident: usage.ru_maxrss as u64 * 1024,
    })
}

/// Binds the calling process to the CPU that it is on (as taskset(1) does).
fn bind_to_this_cpu() -> std::io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is an empty set; the CPU's number is below the number of its bits.
    let bound = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &set)
    };
    if bound == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// The median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The value that so many per cent of all are not above; 0 of nothing.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The bytes of all files below a directory.
pub fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .filter_map(|entry| entry.ok())
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Bytes as MB with one decimal.
pub fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A command line for `rr`.
pub fn rr_line(rr: &Path, args: &[&str], trace: &Path, program: &[OsString]) -> Vec<OsString> {
    let mut line = vec![rr.as_os_str().to_owned()];
    line.extend(args.iter().map(OsString::from));
    line.push(trace.as_os_str().to_owned());
    line.extend(program.iter().cloned());
    line
}

/// `rr traceinfo`.
pub fn trace_info(rr: &Path, trace: &Path) -> Result<rr_tests::TraceInfo> {
    let output = Command::new(rr)
        .arg("traceinfo")
        .arg(trace)
        .output()
        .context("rr traceinfo")?;
    if !output.status.success() {
        bail!(
            "rr traceinfo {}: {}",
            trace.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("the output of rr traceinfo")
}

#[cfg(test)]
mod tests {
    use super::{median, percentile};

    #[test]
    fn percentiles() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 99.0), 99.0);
        assert_eq!(percentile(&hundred[..10], 99.0), 100.0);
        assert_eq!(percentile(&[], 99.0), 0.0);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}

//! The few files of `/proc` that we read (proc(5)).

use std::fmt::Display;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::ids::{Addr, AddrRange, Tid, TraceeFd};
use crate::rr_area;
use crate::space::{ForkPolicy, Prot};

/// The memory of the machine, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineMemory {
    /// Bytes that programs could still be given.
    pub available: u64,
    /// Size of all memory in bytes.
    pub total: u64,
}

impl MachineMemory {
    /// Reads the kernel's current numbers (proc_meminfo(5)). `None` if there are none.
    pub fn now() -> Option<MachineMemory> {
        MachineMemory::of(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn of(text: &str) -> Option<MachineMemory> {
        let bytes = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
            kib.checked_mul(1024)
        };
        Some(MachineMemory {
            available: bytes("MemAvailable:")?,
            total: bytes("MemTotal:")?,
        })
    }
}

/// One line of `/proc/PID/maps`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapsLine {
    /// Addresses of the mapping.
    pub range: AddrRange,
    /// Access rights.
    pub prot: Prot,
    /// Shared (`s`), not private (`p`).
    pub shared: bool,
    /// Offset in the file.
    pub offset: u64,
    /// Device number as `major:minor`.
    pub dev: (u32, u32),
    /// Inode number; 0 for no file.
    pub inode: u64,
    /// File name or `[...]`; octal escapes as the kernel writes them.
    pub name: String,
}

impl MapsLine {
    /// The path of the mapped file: the name without the kernel's mark of deleted files.
    pub fn path(&self, tid: Tid) -> &str {
        without_deleted_mark(tid, &self.name, self.inode)
    }
}

/// Reads a file of unknown length with few calls.
fn read_bytes(path: &str) -> std::io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let mut bytes = vec![0; 4096];
    let mut len = 0;
    loop {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if len == bytes.len() {
            bytes.resize(2 * len, 0);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

pub(crate) fn read(path: String, tid: Tid) -> Result<String> {
    match read_bytes(&path) {
        Ok(bytes) => {
            Ok(String::from_utf8(bytes)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
        }
        Err(e) => Err(failure(&path, tid, &e)),
    }
}

/// The error for a file of `/proc/TID` that cannot be read.
fn failure(path: &str, tid: Tid, e: &std::io::Error) -> Error {
    if e.kind() == std::io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) {
        return Error::Died(tid);
    }
    Error::Proc {
        path: path.to_owned(),
        why: e.to_string(),
    }
}

/// Parses the first line of an entry of `maps` or `smaps` (proc_pid_maps(5)).
pub fn parse_maps_line(line: &str) -> Option<MapsLine> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?.as_bytes();
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode = fields.next()?.parse().ok()?;
    let name = fields.next().unwrap_or("").trim_start().to_owned();
    let hex = |s| u64::from_str_radix(s, 16).ok();
    let right = |n: usize, c: u8, p: Prot| if rights.get(n) == Some(&c) { p.0 } else { 0 };
    Some(MapsLine {
        range: AddrRange::new(Addr(hex(start)?), Addr(hex(end)?)),
        prot: Prot(right(0, b'r', Prot::READ) | right(1, b'w', Prot::WRITE) | right(2, b'x', Prot::EXEC)),
        shared: rights.get(3) == Some(&b's'),
        offset,
        dev: (
            u32::from_str_radix(major, 16).ok()?,
            u32::from_str_radix(minor, 16).ok()?,
        ),
        inode,
        name,
    })
}

/// All mappings of a process.
pub fn maps(tid: Tid) -> Result<Vec<MapsLine>> {
    let path = format!("/proc/{tid}/maps");
    let text = read(path.clone(), tid)?;
    let bad = |line: &str| Error::Proc {
        path: path.clone(),
        why: format!("unexpected line {line:?}"),
    };
    text.lines()
        .map(|line| parse_maps_line(line).ok_or_else(|| bad(line)))
        .collect()
}

/// The mappings of the program itself: without the kernel's own page and rr's.
pub fn program_maps(tid: Tid) -> Result<Vec<MapsLine>> {
    let mut lines = maps(tid)?;
    lines.retain(|l| l.name != "[vsyscall]" && l.range.intersect(rr_area::area()).is_none());
    Ok(lines)
}

/// Effect of a fork on the mappings of a process (`VmFlags` of `/proc/PID/smaps`), in order.
pub fn fork_policies(tid: Tid) -> Result<Vec<(AddrRange, ForkPolicy)>> {
    let text = read(format!("/proc/{tid}/smaps"), tid)?;
    let mut policies = Vec::new();
    let mut range = None;
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |flag| flags.split_whitespace().any(|f| f == flag);
            let policy = match (has("dc"), has("wf")) {
                (true, _) => ForkPolicy::Omit,
                (false, true) => ForkPolicy::Wipe,
                (false, false) => ForkPolicy::Copy,
            };
            policies.extend(range.take().map(|range| (range, policy)));
        } else if let Some(mapping) = parse_maps_line(line) {
            range = Some(mapping.range);
        }
    }
    Ok(policies)
}

/// State of a thread: the letter of `/proc/PID/stat` (`R`, `S`, `D`, `t`, `Z` …).
pub fn state(tid: Tid) -> Result<char> {
    state_in(&stat_of(tid)?, tid)
}

fn stat_of(tid: Tid) -> Result<fs::File> {
    // Not `/proc/TID/stat`: there the kernel adds up the times of all threads of the process.
    let path = format!("/proc/{tid}/task/{tid}/stat");
    fs::File::open(&path).map_err(|e| failure(&path, tid, &e))
}

/// States of threads that are read again and again: a few files are kept open.
#[derive(Debug, Default)]
pub struct States(Vec<(Tid, fs::File)>);

impl States {
    /// Maximum number of open files.
    const MOST: usize = 8;

    /// Same as [`state`].
    pub fn of(&mut self, tid: Tid) -> Result<char> {
        if let Some((_, file)) = self.0.iter().find(|(known, _)| *known == tid)
            && let Ok(state) = state_in(file, tid)
        {
            return Ok(state);
        }
        // An open file belongs to the old thread, even if that is gone and another thread has its tid.
        self.0.retain(|(known, _)| *known != tid);
        let file = stat_of(tid)?;
        let state = state_in(&file, tid)?;
        self.0.truncate(Self::MOST - 1);
        self.0.insert(0, (tid, file));
        Ok(state)
    }
}

fn state_in(file: &fs::File, tid: Tid) -> Result<char> {
    // The state stands behind the name of the program, which is short. The rest is not read.
    let mut start = [0; 128];
    let path = || format!("/proc/{tid}/stat");
    let len = file
        .read_at(&mut start, 0)
        .map_err(|e| failure(&path(), tid, &e))?;
    let name_ends = start[..len].windows(2).rposition(|pair| pair == b") ");
    let state = name_ends.and_then(|at| start[..len].get(at + 2));
    state.map(|byte| char::from(*byte)).ok_or_else(|| Error::Proc {
        path: path(),
        why: "no state".into(),
    })
}

/// `start_brk` of a process, where its heap begins: field 47 of `/proc/PID/stat`.
pub fn start_brk(tid: Tid) -> Result<u64> {
    let path = format!("/proc/{tid}/stat");
    let text = read(path.clone(), tid)?;
    let fields = text.rsplit_once(") ").map(|(_, rest)| rest);
    let field = fields.and_then(|rest| rest.split(' ').nth(47 - 3));
    field.and_then(|f| f.parse().ok()).ok_or(Error::Proc {
        path,
        why: "no start_brk".into(),
    })
}

/// The nice value of a thread (getpriority(2)). 0 if the thread is gone, because it does not matter
/// then.
pub fn nice(tid: Tid) -> i32 {
    // SAFETY: plain numbers. The system call itself returns 20 − nice.
    let answer = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, tid.0) };
    if answer > 0 { 20 - answer as i32 } else { 0 }
}

/// Signal dispositions of a process (`SigIgn` and `SigCgt` of `/proc/PID/status`), and the signals that
/// a task blocks (`SigBlk`).
#[derive(Clone, Copy, Debug)]
pub struct SignalDispositions {
    /// Ignored signals, bit n−1 for signal n.
    pub ignored: u64,
    /// Signals with a handler.
    pub caught: u64,
    /// Signals that this task blocks.
    pub blocked: u64,
}

/// The signal dispositions of a process.
pub fn signal_dispositions(tid: Tid) -> Result<SignalDispositions> {
    let [ignored, caught, blocked] = status_masks(tid, ["SigIgn:", "SigCgt:", "SigBlk:"])?;
    Ok(SignalDispositions {
        ignored,
        caught,
        blocked,
    })
}

/// Returns whether a SIGCONT is pending for a task or for its process (`SigPnd` and `ShdPnd` of
/// `/proc/PID/status`). Sending a stop signal would remove it (signal(7)).
pub fn is_continued(tid: Tid) -> Result<bool> {
    let [own, shared] = status_masks(tid, ["SigPnd:", "ShdPnd:"])?;
    Ok((own | shared) & 1 << (libc::SIGCONT - 1) != 0)
}

/// Masks of signals in `/proc/PID/status`, by their keys with the colon.
pub(crate) fn status_masks<const N: usize>(tid: Tid, keys: [&str; N]) -> Result<[u64; N]> {
    let path = format!("/proc/{tid}/status");
    let text = read(path.clone(), tid)?;
    let mut masks = [0; N];
    for (mask, key) in masks.iter_mut().zip(keys) {
        *mask = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
            .ok_or_else(|| Error::Proc {
                path: path.clone(),
                why: format!("no {key}"),
            })?;
    }
    Ok(masks)
}

/// The thread group of a task (`Tgid` of `/proc/PID/status`).
pub fn tgid(tid: Tid) -> Result<Tid> {
    let path = format!("/proc/{tid}/status");
    let text = read(path.clone(), tid)?;
    let value = text.lines().find_map(|line| line.strip_prefix("Tgid:"));
    value
        .and_then(|v| v.trim().parse().ok())
        .map(Tid)
        .ok_or(Error::Proc {
            path,
            why: "no Tgid".into(),
        })
}

/// The value of this key in `/proc/PID/status`.
fn status_value(pid: Tid, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().to_owned())
}

/// The parent of a process (`PPid` of `/proc/PID/status`).
pub fn parent(pid: Tid) -> Option<Tid> {
    status_value(pid, "PPid:")?.parse().ok().map(Tid)
}

/// The process that traces a process (`TracerPid` of `/proc/PID/status`).
pub fn tracer(pid: Tid) -> Option<Tid> {
    let by = status_value(pid, "TracerPid:")?.parse().ok();
    by.filter(|by| *by != 0).map(Tid)
}

/// The effective user and group of a task (`Uid` and `Gid` of `/proc/PID/status`).
pub fn effective_ids(tid: Tid) -> Option<(u32, u32)> {
    let effective = |key| status_value(tid, key)?.split_whitespace().nth(1)?.parse().ok();
    Some((effective("Uid:")?, effective("Gid:")?))
}

/// Returns whether a task has `CAP_SYS_ADMIN` in its user namespace (`CapEff` of `/proc/PID/status`).
pub fn is_administrator(tid: Tid) -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let effective = status_value(tid, "CapEff:").and_then(|value| u64::from_str_radix(&value, 16).ok());
    effective.is_some_and(|effective| effective & 1 << CAP_SYS_ADMIN != 0)
}

/// The numbers of a task in pid namespaces, from ours to its own (`NSpid` of `/proc/PID/status`).
pub fn numbers(tid: Tid) -> Vec<i32> {
    numbers_in(&status_value(tid, "NSpid:").unwrap_or_default())
}

/// The numbers of a process's group in the same pid namespaces (`NSpgid`).
pub fn groups(tgid: Tid) -> Vec<i32> {
    numbers_in(&status_value(tgid, "NSpgid:").unwrap_or_default())
}

/// The numbers in the value of such a line.
pub fn numbers_in(value: &str) -> Vec<i32> {
    value.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

/// The kernel's name of a task's pid namespace.
pub fn pid_namespace(tid: Tid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{tid}/ns/pid")).ok()
}

/// All processes that we can see.
pub fn processes() -> Vec<Tid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Tid))
        .collect()
}

/// Returns whether a process is the first of its pid namespace (`NStgid` of `/proc/PID/status`).
/// Signals that such a process does not handle have no effect on it (pid_namespaces(7)).
pub fn is_init(tgid: Tid) -> bool {
    status_value(tgid, "NStgid:").is_some_and(|numbers| numbers.split_whitespace().next_back() == Some("1"))
}

/// The processes traced by a process.
pub fn tracees_of(tracer_pid: Tid) -> Vec<Tid> {
    let mut all = processes();
    all.retain(|pid| tracer(*pid) == Some(tracer_pid));
    all
}

/// The process group of a process: field 5 of `/proc/PID/stat`.
pub fn group(pid: Tid) -> Result<i32> {
    let path = format!("/proc/{pid}/stat");
    let text = read(path.clone(), pid)?;
    let fields = text.rsplit_once(") ").map(|(_, rest)| rest);
    let field = fields.and_then(|rest| rest.split(' ').nth(5 - 3));
    field.and_then(|f| f.parse().ok()).ok_or(Error::Proc {
        path,
        why: "no process group".into(),
    })
}

/// The path that opens the same file as a tracee's descriptor.
pub fn fd_path(tid: Tid, fd: TraceeFd) -> PathBuf {
    format!("/proc/{tid}/fd/{}", fd.0).into()
}

/// The position of a tracee's descriptor (`pos` of `/proc/PID/fdinfo/FD`), if it is open.
pub fn fd_position(tid: Tid, fd: TraceeFd) -> Option<u64> {
    fd_info(tid, fd, "pos:")?.parse().ok()
}

/// The `O_*` flags of a tracee's descriptor (`flags` of the same file, octal). 0 if the descriptor is
/// not open.
pub fn fd_flags(tid: Tid, fd: TraceeFd) -> u64 {
    let flags = fd_info(tid, fd, "flags:");
    flags.and_then(|f| u64::from_str_radix(&f, 8).ok()).unwrap_or(0)
}

fn fd_info(tid: Tid, fd: TraceeFd, key: &str) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/{tid}/fdinfo/{}", fd.0)).ok()?;
    let value = info.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().to_owned())
}

/// The arguments of a process.
pub fn cmdline(tid: Tid) -> Result<Vec<String>> {
    let text = read(format!("/proc/{tid}/cmdline"), tid)?;
    Ok(text
        .trim_end_matches('\0')
        .split('\0')
        .map(str::to_owned)
        .collect())
}

/// The path of a process's executable.
pub fn exe(tid: Tid) -> Result<String> {
    path_of_link(tid, "exe").map_err(|_| Error::Died(tid))
}

/// The path of the file that `/proc/OF/LINK` leads to, as process `of` sees the file system.
pub fn path_of_link(of: impl Display, link: &str) -> io::Result<String> {
    let at = PathBuf::from(format!("/proc/{of}/{link}"));
    let name = fs::read_link(&at)?.display().to_string();
    let inode = fs::metadata(&at)?.ino();
    Ok(without_deleted_mark(of, &name, inode).to_owned())
}

/// The path that a name in `/proc` stands for.
///
/// The kernel appends ` (deleted)` when the file has lost its name: somebody removed the file, or
/// renamed another file to this name, as compilers and package managers do. So two readings of one name
/// can differ, but a debugger looks for the file by its path. A file whose own name ends in `
/// (deleted)` keeps it: the whole name then leads to the file.
fn without_deleted_mark(of: impl Display, name: &str, inode: u64) -> &str {
    let Some(path) = name.strip_suffix(" (deleted)") else {
        return name;
    };
    let is_called_so = fs::metadata(format!("/proc/{of}/root{name}")).is_ok_and(|found| found.ino() == inode);
    if is_called_so { name } else { path }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn own_maps_hold_this_function() {
        let here = Addr(own_maps_hold_this_function as *const () as u64);
        let maps = maps(Tid(std::process::id() as i32)).unwrap();
        let mine = maps.iter().find(|m| m.range.contains(here)).unwrap();
        assert!(mine.prot.has(Prot::EXEC) && !mine.shared && mine.inode != 0);
        assert_eq!(mine.name, std::env::current_exe().unwrap().to_str().unwrap());
    }

    #[test]
    fn a_deleted_file_keeps_its_path_and_one_that_is_called_so_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let path_of = |file: &fs::File| path_of_link("self", &format!("fd/{}", file.as_raw_fd())).unwrap();
        let (replaced, odd) = (dir.join("program"), dir.join("program (deleted)"));
        let file = fs::File::create(&replaced).unwrap();
        assert_eq!(path_of(&file), replaced.to_str().unwrap());
        fs::write(dir.join("new"), "new").unwrap();
        fs::rename(dir.join("new"), &replaced).unwrap();
        assert_eq!(path_of(&file), replaced.to_str().unwrap());
        let called_so = fs::File::create(&odd).unwrap();
        assert_eq!(path_of(&called_so), odd.to_str().unwrap());
        assert_eq!(path_of(&file), replaced.to_str().unwrap());
        fs::remove_file(&odd).unwrap();
        assert_eq!(path_of(&called_so), odd.to_str().unwrap());
    }

    #[test]
    fn names_with_spaces_survive() {
        let line =
            "7f0000000000-7f0000001000 r--s 00001000 08:01 42                         /a b/c  d (deleted)";
        let parsed = parse_maps_line(line).unwrap();
        assert_eq!(parsed.name, "/a b/c  d (deleted)");
        assert_eq!((parsed.offset, parsed.inode, parsed.shared), (4096, 42, true));
    }
}

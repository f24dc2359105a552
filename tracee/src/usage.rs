//! Resource usage of a process, as wait4(2) reports it to a tracer.
//!
//! The kernel gives `struct rusage` of another process to nobody but its parent and its tracer. `/proc` has the same
//! figures (proc_pid_stat(5), proc_pid_status(5)), but its times are rounded to ticks of ten milliseconds. The sum of
//! the times in user and kernel mode is known to the nanosecond from the process's own clock
//! (clock_getcpuclockid(3)). The sum is divided in the ratio of the ticks, as the kernel does it.

use crate::error::Result;
use crate::ids::Tid;
use crate::procfs::read;

/// Nanoseconds of a tick in `/proc` (`USER_HZ` is 100 on x86).
const TICK: u64 = 10_000_000;

/// Resource usage of a process and of its children that were waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Nanoseconds in user mode.
    pub user_ns: u64,
    /// Nanoseconds in kernel mode.
    pub system_ns: u64,
    /// The largest resident size of the process in KiB, since it executed its program.
    pub resident_kib: u64,
    /// Page faults without reading from a disk.
    pub minor_faults: u64,
    /// Page faults with reading from a disk.
    pub major_faults: u64,
    /// Switches to another task because the process waited.
    pub voluntary_switches: u64,
    /// Switches to another task although the process could have gone on.
    pub involuntary_switches: u64,
}

impl Usage {
    /// Number of bytes of `struct rusage`.
    pub const BYTES: usize = 144;

    /// The usage of a process.
    pub fn of(tgid: Tid) -> Result<Usage> {
        let stat = read(format!("/proc/{tgid}/stat"), tgid)?;
        let fields: Vec<u64> = stat
            .rsplit_once(") ")
            .map_or("", |(_, rest)| rest)
            .split(' ')
            // Some fields in between are negative, or letters.
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        // Fields are numbered from 1, and the one behind the name is the third.
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        let [user, system, childrens_user, childrens_system] = [14, 15, 16, 17].map(field);
        let own = time_of(tgid).unwrap_or((user + system) * TICK);
        // Of a process that has not seen a tick, the kernel counts all time as time in user mode.
        let own_system = match u128::from(user + system) {
            0 => 0,
            ticks => (u128::from(own) * u128::from(system) / ticks) as u64,
        };
        let mut usage = Usage {
            user_ns: own - own_system + childrens_user * TICK,
            system_ns: own_system + childrens_system * TICK,
            minor_faults: field(10) + field(11),
            major_faults: field(12) + field(13),
            ..Usage::default()
        };
        for line in read(format!("/proc/{tgid}/status"), tgid)?.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let place = match name {
                "VmHWM" => &mut usage.resident_kib,
                "voluntary_ctxt_switches" => &mut usage.voluntary_switches,
                "nonvoluntary_ctxt_switches" => &mut usage.involuntary_switches,
                _ => continue,
            };
            *place = value.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        }
        Ok(usage)
    }

    /// `struct rusage` (getrusage(2)).
    pub fn to_bytes(self) -> Vec<u8> {
        let mut words = [0u64; Self::BYTES / 8];
        for (at, ns) in [(0, self.user_ns), (2, self.system_ns)] {
            words[at] = ns / 1_000_000_000;
            words[at + 1] = ns % 1_000_000_000 / 1000;
        }
        words[4] = self.resident_kib;
        words[8] = self.minor_faults;
        words[9] = self.major_faults;
        words[16] = self.voluntary_switches;
        words[17] = self.involuntary_switches;
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// Nanoseconds that all threads of a process have run.
fn time_of(tgid: Tid) -> Option<u64> {
    /// `CPUCLOCK_SCHED` in the kernel's `<linux/posix-timers_types.h>`.
    const SCHED: i32 = 2;
    let clock = (!tgid.0 << 3) | SCHED;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is ours.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    (result == 0).then_some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_getrusage() {
        let ask = || {
            // SAFETY: zeroes are a valid structure of numbers, which the call fills.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: the structure is ours.
            assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) }, 0);
            usage
        };
        let time = |usage: &libc::rusage| {
            [usage.ru_utime, usage.ru_stime]
                .map(|t| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64)
                .iter()
                .sum::<u64>()
        };
        let mut sum = 0u64;
        while time(&ask()) < 30_000 {
            sum = std::hint::black_box(sum + 1);
        }
        let before = ask();
        let usage = Usage::of(Tid(std::process::id() as i32)).unwrap();
        let after = ask();
        let us = (usage.user_ns + usage.system_ns) / 1000;
        // Children of other tests may have been waited for meanwhile, so there is no upper limit but for the faults.
        assert!(us + 1 >= time(&before), "{usage:?}");
        assert!(usage.minor_faults >= before.ru_minflt as u64, "{usage:?}");
        // The kernel's maximum includes the program that executed this one.
        assert!(
            (1..=after.ru_maxrss as u64).contains(&usage.resident_kib),
            "{usage:?}"
        );

        let bytes = usage.to_bytes();
        assert_eq!(
            (bytes.len(), size_of::<libc::rusage>()),
            (Usage::BYTES, Usage::BYTES)
        );
        let word = |offset: usize| u64::from_le_bytes(*bytes[offset..].first_chunk().unwrap());
        assert_eq!(
            word(std::mem::offset_of!(libc::rusage, ru_maxrss)),
            usage.resident_kib
        );
        assert_eq!(
            word(std::mem::offset_of!(libc::rusage, ru_minflt)),
            usage.minor_faults
        );
        assert_eq!(
            word(std::mem::offset_of!(libc::rusage, ru_nivcsw)),
            usage.involuntary_switches
        );
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert!(Usage::of(Tid(i32::MAX)).is_err());
    }
}

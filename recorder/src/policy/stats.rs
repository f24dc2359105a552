//! The costs of a recording, for people (`rr record --stats`): stops, the calls that were traced and
//! the reasons, the call sites that cannot be rewritten.
//!
//! Counting is always on: it is one addition at a stop, which costs about a thousand times as much.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use rr_tracee::{Addr, Mapping, Stop, syscalls};

/// Maximum number of lines of a list that are shown.
const SHOWN: usize = 20;

/// The reason why a call was traced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Why {
    /// There is no library (`-n`), or the library does not know such calls.
    Unknown,
    /// The site was not rewritten yet.
    First,
    /// The site cannot be rewritten.
    Site,
    /// The library has left it to the recorder.
    Left,
}

impl Why {
    const ALL: [Why; 4] = [Why::Unknown, Why::First, Why::Site, Why::Left];
}

/// The reason why a site cannot be rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Obstacle {
    /// The code is not in a file: the program has generated it.
    Generated,
    /// The code is in a file that is mapped shared.
    Shared,
    /// The program can write to its code.
    Writable,
    /// No instructions before the call can be overwritten by a jump.
    NoWindow,
    /// A branch leads into the instructions that the jump would overwrite.
    BranchTarget,
    /// The code is too large to be searched for branches.
    TooLarge,
    /// A task stands in the instructions that the jump would overwrite.
    Occupied,
    /// There is no free page for a stub nearby.
    NoRoom,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Obstacle::Generated => "code that the program has made",
            Obstacle::Shared => "mapped shared",
            Obstacle::Writable => "writable code",
            Obstacle::NoWindow => "no room for a jump before it",
            Obstacle::BranchTarget => "a branch leads there",
            Obstacle::TooLarge => "too much code to search for branches",
            Obstacle::Occupied => "a task stood there",
            Obstacle::NoRoom => "no free page near it",
        })
    }
}

/// Index in [`Stats::refused`] of a site that cannot be rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused(usize);

#[derive(Debug)]
struct RefusedSite {
    /// File and offset of the site, or a description.
    place: String,
    obstacle: Obstacle,
    /// Number of calls there since the site was examined.
    calls: u64,
}

/// The counters of a recording.
#[derive(Debug, Default)]
pub struct Stats {
    stops: BTreeMap<&'static str, u64>,
    /// Traced calls, by number.
    calls: HashMap<i64, BTreeMap<Why, u64>>,
    refused: Vec<RefusedSite>,
    /// Index in `refused` of each site.
    known: HashMap<(String, Obstacle), Refused>,
    /// Number of rewritten sites.
    rewritten: u64,
    /// Set at the end of the recording.
    pub(crate) events: u64,
    pub(crate) buffered_calls: u64,
    pub(crate) all_stops: u64,
    /// Code that may see the processor without rr knowing.
    pub(crate) native: BTreeSet<String>,
}

impl Stats {
    /// Counts a stop of a tracee.
    pub(crate) fn stop(&mut self, stop: Stop) {
        let name = match stop {
            Stop::Seccomp => "system call entries",
            Stop::Syscall => "system call exits",
            Stop::NewTask { .. } => "new tasks",
            Stop::Exec { .. } => "programs executed",
            Stop::Exiting => "ends of tasks",
            Stop::Signal(_) => "signals and faults",
            Stop::GroupStop(_) => "stops by job control",
            Stop::Event => "interruptions",
        };
        *self.stops.entry(name).or_default() += 1;
    }

    /// Counts a traced call.
    pub(crate) fn call(&mut self, number: i64, why: Why) {
        *self.calls.entry(number).or_default().entry(why).or_default() += 1;
    }

    /// Counts a rewritten site.
    pub(crate) fn rewritten(&mut self) {
        self.rewritten += 1;
    }

    /// Adds a site that cannot be rewritten, at `site` in `mapping`.
    pub(crate) fn refuse(&mut self, site: Addr, mapping: Option<&Mapping>, obstacle: Obstacle) -> Refused {
        let place = match mapping {
            Some(m) if !m.name.is_empty() => {
                let begin = match m.backing {
                    rr_tracee::Backing::File { offset, .. }
                    | rr_tracee::Backing::Shared { offset, .. }
                    | rr_tracee::Backing::CopyOnWrite { offset, .. } => offset,
                    rr_tracee::Backing::Anonymous | rr_tracee::Backing::Rr => 0,
                };
                format!("{}+{:#x}", m.name, site - m.range.start + begin)
            }
            // The address is random, so it is left out.
            _ => "anonymous memory".to_owned(),
        };
        let next = Refused(self.refused.len());
        let known = *self.known.entry((place.clone(), obstacle)).or_insert(next);
        if known == next {
            self.refused.push(RefusedSite {
                place,
                obstacle,
                calls: 0,
            });
        }
        known
    }

    /// Counts a call at a site that cannot be rewritten.
    pub(crate) fn call_at(&mut self, site: Refused) {
        if let Some(site) = self.refused.get_mut(site.0) {
            site.calls += 1;
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>10} events", self.events)?;
        writeln!(f, "{:>10} buffered calls", self.buffered_calls)?;
        writeln!(f, "{:>10} stops", self.all_stops)?;
        let mut stops: Vec<_> = self.stops.iter().collect();
        stops.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), **name));
        for (name, count) in &stops {
            writeln!(f, "{count:>14} {name}")?;
        }
        let handled: u64 = self.stops.values().sum();
        let own = self.all_stops.saturating_sub(handled);
        writeln!(
            f,
            "{own:>14} of rr's own making (calls in the tracee, steps), and ends"
        )?;

        let mut calls: Vec<(u64, i64, &BTreeMap<Why, u64>)> = self
            .calls
            .iter()
            .map(|(number, by)| (by.values().sum(), *number, by))
            .collect();
        calls.sort_by_key(|(sum, number, _)| (std::cmp::Reverse(*sum), *number));
        let sum: u64 = calls.iter().map(|(sum, ..)| sum).sum();
        writeln!(
            f,
            "{sum:>10} traced system calls and rdtsc; not for the library, site not rewritten yet, site cannot be"
        )?;
        writeln!(f, "{:>10} rewritten, left to the recorder by the library:", "")?;
        for (sum, number, by) in calls.iter().take(SHOWN) {
            let [unknown, first, site, left] = Why::ALL.map(|why| by.get(&why).copied().unwrap_or(0));
            let name = syscalls::buffered_name(*number);
            writeln!(
                f,
                "{sum:>14} {name:<18} {unknown:>9} {first:>7} {site:>7} {left:>7}"
            )?;
        }

        let mut refused: Vec<&RefusedSite> = self.refused.iter().collect();
        refused.sort_by_key(|site| (std::cmp::Reverse(site.calls), &site.place));
        let (rewritten, count) = (self.rewritten, refused.len());
        writeln!(f, "{rewritten:>10} call sites rewritten")?;
        write!(
            f,
            "{count:>10} call sites that cannot be rewritten, with the calls there"
        )?;
        for site in refused.iter().take(SHOWN) {
            write!(f, "\n{:>14} {}: {}", site.calls, site.place, site.obstacle)?;
        }
        let native = self.native.len();
        write!(
            f,
            "\n{native:>10} files or kinds of code that may see the processor (cpuid, rdrand, rdpid) without rr"
        )?;
        for code in self.native.iter().take(SHOWN) {
            write!(f, "\n{:>14} {code}", "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_come_first() {
        let mut stats = Stats::default();
        for n in 0..30 {
            for _ in 0..=n {
                stats.call(n, Why::Left);
            }
            let site = stats.refuse(Addr(0x1000 + n as u64), None, Obstacle::Generated);
            stats.call_at(site);
        }
        let text = stats.to_string();
        let place = |what: &str| text.find(what);
        assert!(place("rt_sigpending") < place("madvise"), "{text}");
        assert!(
            place("30 madvise").is_none() && place("29 madvise").is_some(),
            "{text}"
        );
        assert!(place(" read ").is_none(), "only {SHOWN} are shown: {text}");
        assert!(
            place("30 anonymous memory: code that the program has made").is_some(),
            "{text}"
        );
        assert!(place("1 call sites that cannot").is_some(), "{text}");
    }
}

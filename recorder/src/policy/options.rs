//! `Policy`: the options of a recording, and the state of its reports to the user.

use std::cell::OnceCell;
use std::time::Duration;

use rr_preload::layout::Counter;
use rr_tracee::{cpuid, tsc};

use crate::drive::scheduler::Schedule;
use crate::policy::stats::Stats;
use crate::policy::warnings::Warnings;

/// Files in which the kernel lists the CPUs.
const LISTS: [&str; 3] = [
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
    "/sys/devices/system/cpu/present",
];

/// The options of a recording, and the state of its reports to the user.
pub(crate) struct Policy {
    pub options: Options,
    pub warnings: Warnings,
    pub stats: Stats,
    /// The program's file, for messages.
    pub program: String,
    /// The counter that `rdtsc` reads, once it is needed.
    pub counter: OnceCell<Counter>,
}

impl Policy {
    /// The policy of a recording of `program`, about which nobody has been told anything.
    pub fn new(options: Options, program: String) -> Policy {
        Policy {
            options,
            warnings: Warnings::default(),
            stats: Stats::default(),
            program,
            counter: OnceCell::new(),
        }
    }
}

impl Policy {
    /// The CPU as `rdtscp` shows it to the program (its number in the low 12 bits, the node above; set
    /// by the kernel).
    pub(crate) fn pretended_aux(&self, aux: u32) -> u32 {
        match self.options.cores {
            Some(cores) => aux & !0xfff | ((aux & 0xfff) % cores as u32),
            None => aux,
        }
    }

    /// The program's contents of a file that lists CPUs.
    pub(crate) fn list_of_cpus(&self, path: &str) -> Option<String> {
        let cores = self.options.cores.filter(|_| LISTS.contains(&path))?;
        Some(if cores == 1 {
            "0\n".into()
        } else {
            format!("0-{}\n", cores - 1)
        })
    }
}

/// Options of a recording.
#[derive(Debug)]
pub struct Options {
    /// Wait for all processes, not just the first.
    pub wait_for_all: bool,
    /// At every event, compare the model of the address space with `/proc/PID/maps`.
    pub check_maps: bool,
    /// CPU mask that the program is told it may use (that of rr before it bound itself to one CPU).
    pub affinity: Vec<u8>,
    /// Number of CPUs that the program is shown, numbered from 0 (`affinity` is then all of them).
    pub cores: Option<usize>,
    /// A signal that never reaches the program.
    pub ignored_signal: Option<i32>,
    /// A signal that does not kill a program that does not handle it.
    pub survived_signal: Option<i32>,
    /// Write `[rr PID EVENT]` before everything that the program writes to our standard output and
    /// error.
    pub mark_stdio: bool,
    /// Parameters of the scheduler.
    pub schedule: Schedule,
    /// Let a library in the tracees make the calls that need no stop.
    pub buffered: bool,
    /// Maximum time of the recording. Then the recording ends where the tasks are ([`crate::End::TimeLimit`]).
    pub time_limit: Option<Duration>,
    /// What the program sees of the processor.
    pub processor: Processor,
    /// Measurement of the time-stamp counter's rate. It begins as early as possible, so that nobody has
    /// to wait for its end.
    pub measurement: tsc::Measurement,
}

/// What a recorded program sees of the processor.
#[derive(Debug)]
pub struct Processor {
    /// The answers of `cpuid`.
    pub answers: cpuid::Table,
    /// The level whose processors are to replay the trace. The answers show no more than that.
    pub portable: Option<cpuid::Level>,
}

impl Policy {
    /// The counter that `rdtsc` reads.
    pub(crate) fn counter(&self) -> Counter {
        *self.counter.get_or_init(|| self.options.measurement.end())
    }

    /// The program's file, for messages.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }
}

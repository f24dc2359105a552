//! A made-up program for tests: two threads that take turns at a loop of three instructions.
//!
//! ```text
//! 0x401000  inc qword ptr [0x402000]
//! 0x401008  nop
//! 0x401009  jmp 0x401000
//! ```
//!
//! Its history has [`Mock::LENGTH`] instructions; a place in it is a number of instructions, and everything else
//! follows from that. It needs no process, so that a fuzzer can have thousands of them.

use std::collections::BTreeMap;
use std::fs::File;

use rr_trace::Member;
use rr_tracee::{Addr, ExtendedState, Registers, Tid};

use crate::target::{
    Action, Condition, Direction, Interrupt, PointKind, RegisterFile, Restart, Stop, StopOptions, Target,
    TargetError, Thread,
};

/// The process, and its first thread.
pub const FIRST: Tid = Tid(1000);
/// The other thread.
pub const SECOND: Tid = Tid(1001);
/// The loop.
pub const CODE: Addr = Addr(0x40_1000);
/// The counter that the loop increments.
pub const COUNTER: Addr = Addr(0x40_2000);
const STACK: Addr = Addr(0x7000_0000);
const STACK_LEN: u64 = 0x1000;
const INSTRUCTIONS: [u8; 11] = [0x48, 0xff, 0x04, 0x25, 0x00, 0x20, 0x40, 0x00, 0x90, 0xeb, 0xf5];
/// The offsets at which the instructions of a turn begin.
const OFFSETS: [u64; 3] = [0, 8, 9];

type Point = (PointKind, Addr, u64);

/// The program.
#[derive(Debug)]
pub struct Mock {
    /// The number of instructions that were executed.
    pub now: u64,
    /// The calls of [`Target::command`].
    pub commands: Vec<(String, Option<Tid>, Vec<String>)>,
    /// The options of the last [`Target::resume`].
    pub options: StopOptions,
    /// The next result of [`Target::resume`], instead of running.
    pub next: Option<Result<Stop, TargetError>>,
    /// True if running goes on until it is interrupted.
    pub endless: bool,
    /// The last destination of [`Target::restart`].
    pub restarted: Option<Restart>,
    current: Tid,
    points: BTreeMap<Point, Vec<Box<dyn Condition>>>,
    written: BTreeMap<Addr, u8>,
    registers: BTreeMap<Tid, RegisterFile>,
}

impl Default for Mock {
    fn default() -> Mock {
        Mock {
            now: 0,
            commands: Vec::new(),
            options: StopOptions::default(),
            next: None,
            endless: false,
            restarted: None,
            current: FIRST,
            points: BTreeMap::new(),
            written: BTreeMap::new(),
            registers: BTreeMap::new(),
        }
    }
}

/// The thread that executes instruction `n`.
fn thread_at(n: u64) -> Tid {
    if (n / 3).is_multiple_of(2) { FIRST } else { SECOND }
}

/// Extended state of this machine's length, all zero.
fn extended() -> ExtendedState {
    let size = std::arch::x86_64::__cpuid_count(0xd, 0).ecx as usize;
    ExtendedState(vec![0; size.clamp(576, 1 << 16)])
}

impl Mock {
    /// The number of instructions that the program executes.
    pub const LENGTH: u64 = 60;

    /// A program whose next resumption gives this.
    pub fn with_next(next: Result<Stop, TargetError>) -> Mock {
        Mock {
            next: Some(next),
            ..Mock::default()
        }
    }

    /// A program that runs until it is interrupted.
    pub fn endless() -> Mock {
        Mock {
            endless: true,
            ..Mock::default()
        }
    }

    /// The points that are set.
    pub fn points(&self) -> Vec<Point> {
        self.points.keys().copied().collect()
    }

    fn counter(&self) -> u64 {
        self.now.div_ceil(3)
    }

    fn rip(&self, tid: Tid) -> Addr {
        let phase = if thread_at(self.now) == tid {
            self.now % 3
        } else {
            0
        };
        CODE + OFFSETS[phase as usize]
    }

    fn byte(&self, at: Addr) -> Option<u8> {
        if let Some(byte) = self.written.get(&at) {
            return Some(*byte);
        }
        let within =
            |start: Addr, len: u64| (at.0 >= start.0 && at - start < len).then(|| (at - start) as usize);
        if let Some(n) = within(CODE, 0x1000) {
            return Some(INSTRUCTIONS.get(n).copied().unwrap_or(0xcc));
        }
        if let Some(n) = within(COUNTER, 0x1000) {
            return Some(self.counter().to_le_bytes().get(n).copied().unwrap_or(0));
        }
        within(STACK, STACK_LEN).map(|_| 0)
    }

    /// One instruction forward; the stop that it gives.
    fn forward(&mut self) -> Option<Stop> {
        let tid = thread_at(self.now);
        let writes = self.now.is_multiple_of(3);
        self.now += 1;
        self.registers.clear();
        writes.then(|| self.watched(tid)).flatten()
    }

    fn backward(&mut self) -> Option<Stop> {
        self.now -= 1;
        self.registers.clear();
        let tid = thread_at(self.now);
        self.now.is_multiple_of(3).then(|| self.watched(tid)).flatten()
    }

    fn watched(&self, tid: Tid) -> Option<Stop> {
        let over = |addr: Addr, len: u64| addr.0 < COUNTER.0 + 8 && COUNTER.0 < addr.0.saturating_add(len);
        let found = self
            .points
            .keys()
            .find(|(kind, addr, len)| *kind >= PointKind::Write && over(*addr, *len))?;
        Some(Stop::Watchpoint {
            tid,
            addr: found.1,
            kind: found.0,
        })
    }

    fn breakpoint(&self) -> Option<Stop> {
        let tid = thread_at(self.now);
        let rip = self.rip(tid);
        let registers = self.registers(tid).ok()?.general;
        for ((kind, addr, _), conditions) in &self.points {
            let mut read = |at: Addr, buf: &mut [u8]| self.read_memory(at, buf) == buf.len();
            let holds = conditions.is_empty() || conditions.iter().any(|c| c.holds(&registers, &mut read));
            if *kind <= PointKind::Hardware && *addr == rip && holds {
                return Some(Stop::Breakpoint {
                    tid,
                    addr: rip,
                    hardware: *kind == PointKind::Hardware,
                });
            }
        }
        None
    }

    fn run(&mut self, action: Action, direction: Direction) -> Stop {
        loop {
            let at_end = self.now >= Mock::LENGTH;
            let stop = match direction {
                Direction::Forward if at_end => return Stop::Exited { status: 3 << 8 },
                Direction::Backward if self.now == 0 => return Stop::HistoryBegin { tid: thread_at(0) },
                Direction::Forward => self.forward(),
                Direction::Backward => self.backward(),
            };
            let mover = match direction {
                Direction::Forward => thread_at(self.now - 1),
                Direction::Backward => thread_at(self.now),
            };
            if let Some(stop) = stop.or_else(|| self.breakpoint()) {
                return stop;
            }
            match action {
                Action::Step(tid) if tid == mover => return Stop::Stepped { tid },
                Action::StepRange(tid, range) if tid == mover && !range.contains(self.rip(tid)) => {
                    return Stop::Stepped { tid };
                }
                _ if self.now == Mock::LENGTH => return Stop::Exiting { tid: mover },
                _ => {}
            }
        }
    }
}

impl Target for Mock {
    fn process(&self) -> Tid {
        FIRST
    }

    fn threads(&self) -> Vec<Thread> {
        let thread = |tid, name: &str| Thread {
            tid,
            name: name.into(),
        };
        vec![thread(FIRST, "mock"), thread(SECOND, "worker <1>")]
    }

    fn current(&self) -> Option<Tid> {
        Some(self.current)
    }

    fn registers(&self, tid: Tid) -> Result<RegisterFile, TargetError> {
        if let Some(file) = self.registers.get(&tid) {
            return Ok(file.clone());
        }
        if tid != FIRST && tid != SECOND {
            return Err(TargetError::NoThread(tid));
        }
        let general = Registers {
            rax: self.now,
            rsp: STACK.0 + 0x800,
            rbp: STACK.0 + 0x900,
            rip: self.rip(tid).0,
            eflags: 0x202,
            cs: 0x33,
            ss: 0x2b,
            orig_rax: u64::MAX,
            ..Default::default()
        };
        Ok(RegisterFile {
            general,
            extended: extended(),
        })
    }

    fn set_registers(&mut self, tid: Tid, registers: &RegisterFile) -> Result<(), TargetError> {
        self.registers(tid)?;
        self.registers.insert(tid, registers.clone());
        Ok(())
    }

    fn read_memory(&self, addr: Addr, buf: &mut [u8]) -> usize {
        for (n, byte) in buf.iter_mut().enumerate() {
            match self.byte(addr + n as u64) {
                Some(value) => *byte = value,
                None => return n,
            }
        }
        buf.len()
    }

    fn write_memory(&mut self, addr: Addr, bytes: &[u8]) -> Result<(), TargetError> {
        let last = addr + (bytes.len() as u64).saturating_sub(1);
        if self.byte(addr).is_none() || self.byte(last).is_none() {
            return Err(TargetError::Refused("there is no such memory".into()));
        }
        (0u64..).zip(bytes).for_each(|(n, byte)| {
            self.written.insert(addr + n, *byte);
        });
        Ok(())
    }

    fn auxv(&self) -> Vec<u8> {
        // AT_PAGESZ, AT_NULL.
        [6u64, 4096, 0, 0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    fn exec_file(&self) -> String {
        "/mock/program".into()
    }

    fn siginfo(&self, tid: Tid) -> Option<Vec<u8>> {
        (tid == FIRST).then(|| vec![11; 128])
    }

    fn maps(&self) -> String {
        "00401000-00402000 r-xp 00000000 00:00 0                          /mock/program\n".into()
    }

    fn resume(
        &mut self,
        action: Action,
        direction: Direction,
        options: &StopOptions,
        interrupt: &mut dyn Interrupt,
    ) -> Result<Stop, TargetError> {
        self.options = options.clone();
        if let Some(next) = self.next.take() {
            return next;
        }
        if self.endless {
            while !interrupt.is_requested() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            return Ok(Stop::Interrupted { tid: self.current });
        }
        let stop = self.run(action, direction);
        self.current = stop.tid().unwrap_or(self.current);
        Ok(stop)
    }

    fn restart(&mut self, to: Restart, _interrupt: &mut dyn Interrupt) -> Result<Stop, TargetError> {
        let now = match to {
            Restart::Back if self.now == 0 => {
                return Err(TargetError::Refused(
                    "Can't go back. No more history entries.".into(),
                ));
            }
            Restart::Last | Restart::Back => 0,
            Restart::Forward => return Err(TargetError::Refused("Can't go forward.".into())),
            Restart::Checkpoint(1) => 12,
            Restart::Checkpoint(n) => return Err(TargetError::Refused(format!("Checkpoint {n} not found."))),
            Restart::Event(event) => event.min(Mock::LENGTH - 1),
        };
        self.now = now;
        self.written.clear();
        self.registers.clear();
        self.current = thread_at(now);
        self.restarted = Some(to);
        Ok(Stop::Stepped { tid: self.current })
    }

    fn insert_point(
        &mut self,
        kind: PointKind,
        addr: Addr,
        len: u64,
        conditions: Vec<Box<dyn Condition>>,
    ) -> Result<(), TargetError> {
        let watchpoints = self
            .points
            .keys()
            .filter(|(kind, ..)| *kind >= PointKind::Write)
            .count();
        if kind >= PointKind::Write && watchpoints >= 4 && !self.points.contains_key(&(kind, addr, len)) {
            return Err(TargetError::NoResources);
        }
        self.points.insert((kind, addr, len), conditions);
        Ok(())
    }

    fn remove_point(&mut self, kind: PointKind, addr: Addr, len: u64) -> Result<(), TargetError> {
        self.points.remove(&(kind, addr, len));
        Ok(())
    }

    fn command(&mut self, name: &str, tid: Option<Tid>, args: &[String]) -> Result<String, TargetError> {
        self.commands.push((name.into(), tid, args.to_vec()));
        match name {
            "when" => Ok(format!("Completed event: {}", self.now)),
            "checkpoint" => Ok(format!("Checkpoint 1 at {}", args.join(" "))),
            _ => Err(TargetError::Refused(format!("there is no command {name}"))),
        }
    }

    fn open_file(&self, path: &str) -> Option<Member> {
        (path == "/mock/file")
            .then(|| File::open("/proc/self/cmdline").ok())
            .flatten()
            .map(|file| Member::whole(file, path.into()))
    }
}

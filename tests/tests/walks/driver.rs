//! A random walk along a trace, forwards and backwards, with interrupts at random moments. Each place
//! that the walk reaches is compared with an independent replay that goes straight there.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rr_replayer::condition::{Binary, Op, Program, Register, Width};
use rr_replayer::position::Move;
use rr_replayer::timeline::{Action, Condition, Setup, Stop, Timeline};
use rr_replayer::{Interrupt, Never, Position};
use rr_trace::TraceReader;
use rr_trace::event::{EventKind, EventNumber};
use rr_tracee::task::WatchKind;
use rr_tracee::{Addr, AddrRange, Registers, Tid};

/// A small generator of random numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }
}

/// Time limit of a search.
const LONG: Duration = Duration::from_secs(30);

/// Requests an interrupt after a time.
struct After(Instant);

impl Interrupt for After {
    fn is_requested(&mut self) -> bool {
        Instant::now() >= self.0
    }
}

/// A random condition: on a register, on the stack, or on memory that a register points to, if it
/// points anywhere. The task evaluates it, or only our side can.
fn condition(random: &mut Random) -> Condition {
    let number = random.below(4);
    let offset = 8 * random.below(8);
    let on_register = [
        Op::Register(Register::Rcx),
        Op::Constant(3),
        Op::Binary(Binary::RemUnsigned),
    ];
    let on_stack = [
        Op::Register(Register::Rsp),
        Op::Constant(offset),
        Op::Binary(Binary::Add),
        Op::Read(Width::Eight),
        Op::Constant(3),
        Op::Binary(Binary::And),
    ];
    let on_pointer = [
        Op::Register(Register::Rdi),
        Op::Read(Width::Four),
        Op::Constant(3),
        Op::Binary(Binary::And),
    ];
    let which = random.below(3);
    let value: &[Op] = match which {
        0 => &on_register,
        1 => &on_stack,
        _ => &on_pointer,
    };
    let test = [Op::Constant(number), Op::Binary(Binary::Equal), Op::End];
    let program = Program::new([value, &test].concat()).map(Arc::new);
    let program = program.filter(|_| random.below(4) != 0);
    let holds = move |regs: &Registers, read: &mut dyn FnMut(Addr, &mut [u8]) -> bool| {
        let mut word = [0; 8];
        let value = match which {
            0 => Some(regs.rcx % 3),
            1 => read(Addr(regs.rsp.wrapping_add(offset)), &mut word).then(|| u64::from_le_bytes(word) & 3),
            _ => read(Addr(regs.rdi), &mut word[..4]).then(|| u64::from_le_bytes(word) & 3),
        };
        value.is_none_or(|value| value == number)
    };
    Condition::new(holds, program)
}

pub fn timeline(reader: &Arc<TraceReader>, process: Tid) -> Result<Timeline, Box<dyn Error>> {
    Ok(Timeline::new(Setup {
        reader: Arc::clone(reader),
        // Without CPUID faulting the program has seen the number of its CPU.
        cpu: reader.header().bound_cpu.map(|cpu| cpu as usize),
        process,
        begin: EventNumber(1),
        show: Box::new(|_, _| {}),
    })?)
}

/// Walks `steps` steps and logs the result of each. Returns the number of compared places.
pub fn walk(
    trace: &Path,
    seed: u64,
    steps: u64,
    log: &mut dyn FnMut(String),
) -> Result<usize, Box<dyn Error>> {
    // Starts one timeline for the walk, and one to compare with.
    let reader = Arc::new(TraceReader::open(trace)?);
    let mut random = Random(seed * 2 + 1);
    let mut process = Tid(0);
    let mut processes = BTreeSet::new();
    for event in reader.events_from(reader.first_event())? {
        let event = event?;
        if let EventKind::Start { exec, .. } = &event.kind {
            process = exec.tid;
        }
        processes.insert(event.tid);
    }
    let mut here = timeline(&reader, process)?;
    let mut straight = timeline(&reader, process)?;
    here.seek(&Position::at_event(EventNumber(1)), &mut Never)?;
    let mut known: Vec<Addr> = Vec::new();
    let mut compared = 0;
    for n in 0..steps {
        let tids = here.session().threads_of(process);
        let tid = tids
            .get(random.below(tids.len() as u64) as usize)
            .copied()
            .unwrap_or(process);
        if let Some(regs) = here.session().registers(tid) {
            known.push(Addr(regs.rip));
        }
        // The breakpoints and watchpoints change now and then.
        if random.below(3) == 0 {
            here.stops.breakpoints.clear();
            here.stops.watches.clear();
            for _ in 0..random.below(4) {
                if !known.is_empty() {
                    let addr = known[random.below(known.len() as u64) as usize];
                    let conditions = (random.below(2) == 0).then(|| condition(&mut random));
                    let conditions = conditions.into_iter().collect();
                    here.stops.breakpoints.insert(addr, conditions);
                }
            }
            if random.below(3) == 0
                && let Some(regs) = here.session().registers(tid)
            {
                let addr = Addr((regs.rsp & !7).wrapping_sub(random.below(8) * 8));
                here.stops
                    .watches
                    .push((AddrRange::sized(addr, 8), WatchKind::Write));
            }
        }
        // Makes a random move.
        let before = here.position();
        let began = Instant::now();
        let mut soon = After(began + Duration::from_millis(random.below(40)));
        // A condition that only our side can evaluate costs a stop at each of millions of passes.
        let mut long = After(began + LONG);
        let (what, stop) = match random.below(14) {
            10..=11 => ("continue for a while", here.resume(Action::Continue, &mut soon)?),
            12 => ("reverse-continue for a while", here.reverse_continue(&mut soon)?),
            13 => ("reverse-step for a while", here.reverse_step(tid, &mut soon)?),
            0..=2 => ("step", here.resume(Action::Step(tid), &mut Never)?),
            3..=4 => ("continue", here.resume(Action::Continue, &mut long)?),
            5..=6 => ("reverse-step", here.reverse_step(tid, &mut long)?),
            7 => ("reverse-continue", here.reverse_continue(&mut long)?),
            8 => {
                let goal = Position::at_event(EventNumber(1 + random.below(reader.last_event().0)));
                here.seek(&goal, &mut Never)?;
                ("seek", Stop::Stepped { tid })
            }
            _ => {
                let mut stop = Stop::Stepped { tid };
                for _ in 0..random.below(30) {
                    stop = here.resume(Action::Step(tid), &mut Never)?;
                }
                ("steps", stop)
            }
        };
        let took = began.elapsed();
        let position = here.position();
        log(format!(
            "{n}: {what} of {tid} from {before}: {stop:?} at {position} ({} µs)",
            took.as_micros()
        ));
        // A place without a name sometimes stays without one.
        let is_nameless = position.path.0.iter().any(|m| matches!(m, Move::Interrupted(_)));
        if is_nameless && random.below(2) == 0 {
            continue;
        }
        let Some(position) = here.here(&mut Never)? else {
            return Err("nobody has interrupted it".into());
        };
        if is_nameless {
            log(format!(
                "    that is {position} ({} µs)",
                (began.elapsed() - took).as_micros()
            ));
        }
        if what.starts_with("reverse") && !matches!(stop, Stop::HistoryBegin | Stop::Interrupted) {
            let before = here.named(&before, &mut Never)?;
            if before.is_none_or(|before| before == position) {
                return Err(format!("{what} has stayed at {position}").into());
            }
        }
        // Compares with a straight replay to the same position.
        straight.seek(&Position::at_event(EventNumber(1)), &mut Never)?;
        straight.seek(&position, &mut Never)?;
        let differences = here.session().differences(straight.session(), 5)?;
        if !differences.is_empty() {
            return Err(format!("different at {position}: {differences:#?}").into());
        }
        compared += 1;
        if here.session().threads_of(process).is_empty() {
            here.seek(&Position::at_event(EventNumber(1)), &mut Never)?;
        }
    }
    Ok(compared)
}

//! The thread that drives tracees gives up `rdtsc` and `cpuid`, like its tracees: then switching between them is
//! cheap.
//!
//! Tracees run with a faulting `rdtsc` (`PR_SET_TSC`, prctl(2)). That is a bit of the CPU's register
//! CR4, which the kernel writes at every switch between a thread with the time-stamp counter and one
//! without. In a virtual machine every such write leaves the guest. Measured there, a ptrace stop takes
//! 18 µs, and 7.6 µs if the tracer has given up `rdtsc` too. The same is true of a faulting `cpuid`
//! ([`crate::cpuid`]), which is a bit of another such register.
//!
//! *The thread's other code need not know.* The clock of the vDSO reads the counter, too. Then a
//! handler of `SIGSEGV` gives the counter back, and [`renew`] takes it away again later (`cpuid` in the same way). That is slow,
//! so code that runs at every event, or for every file of a program, gets the time from [`now`] or [`real_time`].

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::time::Duration;

use rr_preload::layout::Counter;

use crate::cpuid;
use crate::task::SI_KERNEL;

/// Number of requested renewals before one is made: a thread that uses the counter all the time keeps
/// it.
const PATIENCE: u32 = 64;

thread_local! {
    /// Number of [`GivenUp`]s of this thread. It has no destructor, so that a signal handler may use
    /// it.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// True if the handler has given the counter back to this thread.
    static GIVEN_BACK: Cell<bool> = const { Cell::new(false) };
    static ASKED: Cell<u32> = const { Cell::new(0) };
    /// True if this thread has given up `cpuid`, too.
    static WITH_CPUID: Cell<bool> = const { Cell::new(false) };
}

/// The handler of other faults, which was installed before.
static FORMER: OnceLock<libc::sigaction> = OnceLock::new();

/// While this value lives, its thread has no time-stamp counter, and perhaps no `cpuid`.
#[derive(Debug)]
pub struct GivenUp {
    /// The value belongs to one thread.
    not_send: PhantomData<*const ()>,
}

impl GivenUp {
    /// Takes the counter away from the calling thread, and `cpuid` if the tracees do without it. If that fails, only
    /// speed is lost.
    pub fn new(with_cpuid: bool) -> GivenUp {
        install();
        unblock();
        DEPTH.set(DEPTH.get() + 1);
        WITH_CPUID.set(WITH_CPUID.get() || with_cpuid);
        set(libc::PR_TSC_SIGSEGV);
        GivenUp {
            not_send: PhantomData,
        }
    }
}

/// Takes the counter away again if it had to be given back to this thread, after `PATIENCE` calls.
pub fn renew() {
    if !GIVEN_BACK.get() {
        return;
    }
    ASKED.set(ASKED.get() + 1);
    if ASKED.get() >= PATIENCE {
        ASKED.set(0);
        GIVEN_BACK.set(false);
        if DEPTH.get() > 0 {
            set(libc::PR_TSC_SIGSEGV);
        }
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            set(libc::PR_TSC_ENABLE);
            WITH_CPUID.set(false);
        }
    }
}

fn set(mode: libc::c_int) {
    // Not before the handler is installed.
    if FORMER.get().is_some() {
        // SAFETY: prctl with plain numbers.
        unsafe { libc::prctl(libc::PR_SET_TSC, mode, 0, 0, 0) };
        if WITH_CPUID.get() {
            cpuid::set_faulting(mode == libc::PR_TSC_SIGSEGV);
        }
    }
}

/// Unblocks the handler's signal, which rr may have been started with.
fn unblock() {
    // SAFETY: an all-zero set is a valid one, which is emptied and filled by the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGSEGV);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}

/// Installs the handler, once.
fn install() {
    FORMER.get_or_init(|| {
        // SAFETY: all-zero is a valid sigaction, whose fields are set next.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction =
            on_fault as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: as above.
        let mut former: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: both actions are valid; the handler calls only async-signal-safe functions. Until `FORMER` is set, which
        // it is next, no thread has given up its counter, and another fault meanwhile is fatal as it was.
        unsafe { libc::sigaction(libc::SIGSEGV, &action, &mut former) };
        former
    });
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes valid pointers to a handler with SA_SIGINFO, and the third is to a ucontext_t.
    let (code, rip) = unsafe {
        let context = context.cast::<libc::ucontext_t>();
        (
            (*info).si_code,
            (*context).uc_mcontext.gregs[libc::REG_RIP as usize],
        )
    };
    let at = rip as *const u8;
    if code == SI_KERNEL && (is_rdtsc(at) || is_cpuid(at)) {
        // A thread may have inherited this from the one that has created it.
        if is_cpuid(at) {
            cpuid::set_faulting(false);
        }
        set(libc::PR_TSC_ENABLE);
        GIVEN_BACK.set(DEPTH.get() > 0);
        return;
    }
    match FORMER.get() {
        Some(former) if ![libc::SIG_DFL, libc::SIG_IGN].contains(&former.sa_sigaction) => {
            // SAFETY: an installed handler is a function. Without SA_SIGINFO it ignores the other
            // arguments.
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(former.sa_sigaction) };
            handler(signal, info, context);
        }
        // The instruction faults again, and then ends the process.
        // SAFETY: plain numbers.
        _ => unsafe {
            libc::signal(signal, libc::SIG_DFL);
        },
    }
}

/// Returns whether there is an `rdtsc` or `rdtscp` at `at`.
fn is_rdtsc(at: *const u8) -> bool {
    // SAFETY: the processor has just read an instruction there. The second and third byte are read only
    // if the bytes before say that the instruction has them.
    unsafe {
        at.read() == 0x0f
            && (at.add(1).read() == 0x31 || at.add(1).read() == 0x01 && at.add(2).read() == 0xf9)
    }
}

/// Returns whether there is a `cpuid` at `at`.
fn is_cpuid(at: *const u8) -> bool {
    // SAFETY: the processor has just read an instruction there, of at least two bytes: no shorter one that can fault like
    // this begins so.
    unsafe { at.read() == cpuid::BYTES[0] && at.add(1).read() == cpuid::BYTES[1] }
}

/// Minimum time of a measurement of the counter's rate: exact to a ten-thousandth.
const MEASURED: Duration = Duration::from_millis(1);

/// The beginning of a measurement of the counter. (The thread must not have given the counter up.)
#[derive(Clone, Copy, Debug)]
pub struct Measurement(Counter);

impl Measurement {
    /// Begins a measurement.
    pub fn begin() -> Measurement {
        // The value read in the shortest time is the most exact.
        let samples = (0..5).map(|_| {
            let before = read();
            let time = raw_time();
            let after = read();
            let value = before + (after - before) / 2;
            (after - before, Counter { time, value, rate: 0 })
        });
        Measurement(
            samples
                .min_by_key(|(took, _)| *took)
                .map_or(Counter::default(), |s| s.1),
        )
    }

    /// Ends the measurement. Returns the counter as a function of the clock.
    pub fn end(self) -> Counter {
        let Measurement(first) = self;
        loop {
            let Measurement(last) = Measurement::begin();
            let time = last.time.saturating_sub(first.time);
            if time >= MEASURED.as_nanos() as u64 {
                let ticks = u128::from(last.value.saturating_sub(first.value));
                let rate = ((ticks << 32) / u128::from(time)) as u64;
                return Counter { rate, ..last };
            }
        }
    }
}

fn read() -> u64 {
    // SAFETY: every x86-64 processor has a time-stamp counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The time that the counter is computed from, in nanoseconds.
pub fn raw_time() -> u64 {
    time_of(libc::CLOCK_MONOTONIC_RAW).as_nanos() as u64
}

/// The value that `rdtscp` returns beside the counter: the number of the processor, with that of its
/// node.
pub fn processor() -> u32 {
    let (mut cpu, mut node) = (0u32, 0u32);
    // SAFETY: the call fills both variables.
    unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, &raw mut node, 0) };
    node << 12 | cpu
}

/// The time of `CLOCK_MONOTONIC`, by a system call.
pub fn now() -> Duration {
    time_of(libc::CLOCK_MONOTONIC)
}

/// The time of `CLOCK_REALTIME`, by a system call.
pub fn real_time() -> Duration {
    time_of(libc::CLOCK_REALTIME)
}

fn time_of(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec that the call fills; it cannot fail for these clocks.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PR_GET_TSC` of this thread.
    fn mode() -> i32 {
        let mut mode = 0;
        // SAFETY: prctl stores the mode in our variable.
        unsafe { libc::prctl(libc::PR_GET_TSC, &raw mut mode) };
        mode
    }

    use super::read as rdtsc;

    #[test]
    fn the_clock_in_ticks_is_the_counter() {
        let counter = Measurement::begin().end();
        std::thread::sleep(Duration::from_millis(20));
        let (made, read) = (counter.at(raw_time()), rdtsc());
        // Exact to a thousandth, plus the machine's delay in between.
        let ticks_of_a_millisecond = (u128::from(counter.rate) * 1_000_000) >> 32;
        assert!(
            u128::from(read.abs_diff(made)) < ticks_of_a_millisecond * 5,
            "{made} {read}"
        );
        assert!(counter.at(counter.time + 1_000_000) > counter.value);
    }

    #[test]
    fn the_counter_comes_back_when_it_is_used_and_goes_again() {
        let outer = GivenUp::new(false);
        assert_eq!(mode(), libc::PR_TSC_SIGSEGV);
        assert_ne!(rdtsc(), 0);
        assert_eq!(mode(), libc::PR_TSC_ENABLE);
        for _ in 1..PATIENCE {
            renew();
            assert_eq!(mode(), libc::PR_TSC_ENABLE);
        }
        renew();
        assert_eq!(mode(), libc::PR_TSC_SIGSEGV);
        drop(GivenUp::new(false));
        assert_eq!(mode(), libc::PR_TSC_SIGSEGV, "the outer one is still there");
        drop(outer);
        assert_eq!(mode(), libc::PR_TSC_ENABLE);
    }

    #[test]
    fn a_thread_that_inherits_it_gets_the_counter_back() {
        let _given_up = GivenUp::new(false);
        std::thread::spawn(|| assert_ne!(rdtsc(), 0)).join().unwrap();
        assert_eq!(mode(), libc::PR_TSC_SIGSEGV);
    }

    #[test]
    fn cpuid_comes_back_when_it_is_used() {
        if !cpuid::can_fault() {
            eprintln!("skipped: the processor cannot be made to fault on cpuid");
            return;
        }
        // SAFETY: plain numbers.
        let is_there = || unsafe { libc::syscall(libc::SYS_arch_prctl, cpuid::ARCH_GET_CPUID, 0) } == 1;
        let expected = cpuid::native(0, 0);
        let given_up = GivenUp::new(true);
        assert!(!is_there());
        std::thread::spawn(move || assert_eq!(cpuid::native(0, 0), expected))
            .join()
            .unwrap();
        assert!(!is_there());
        assert_eq!(cpuid::native(0, 0), expected);
        assert!(is_there());
        for _ in 0..PATIENCE {
            renew();
        }
        assert!(!is_there(), "it goes again");
        drop(given_up);
        assert!(is_there());
    }

    #[test]
    fn other_faults_end_the_process_as_before() {
        // SAFETY: the child calls nothing but what a fault leads to.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let _given_up = GivenUp::new(false);
            // SAFETY: not at all; that is the test.
            unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: our own child.
        unsafe { libc::waitpid(pid, &mut status, 0) };
        assert!(
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV,
            "{status:#x}"
        );
    }

    #[test]
    fn the_time_is_that_of_the_vdso() {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let before = now();
        // SAFETY: fills `time`.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
        let between = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        assert!(before <= between && between <= now());
    }
}

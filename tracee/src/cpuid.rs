//! `CPUID`: its answers on the CPU that this thread runs on, and whether the processor can be made to trap on it.
//!
//! A recorded program gets its answers from a [`Table`], which is a constant of its trace: so a replay needs no `CPUID`,
//! and may run on another CPU. The table has the leaves that programs ask for at their start. Other leaves are asked for
//! one by one, when the program's instruction has trapped ([`native`]).

mod features;
mod hidden;
mod level;

use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rr_preload::layout::{ANY_SUBLEAF, CPUID_ENTRIES};

use crate::regs::{NOT_IN_SYSCALL, RF, Registers};

pub use hidden::Hidden;
pub use level::Level;
pub use rr_preload::layout::CpuidEntry;

/// `ARCH_GET_CPUID` and `ARCH_SET_CPUID` (arch_prctl(2)).
pub const ARCH_GET_CPUID: i32 = 0x1011;
/// See [`ARCH_GET_CPUID`].
pub const ARCH_SET_CPUID: i32 = 0x1012;

/// Length of the instruction.
pub const LEN: u64 = 2;

/// Bytes of the instruction.
pub const BYTES: [u8; LEN as usize] = [0x0f, 0xa2];

/// True if the user wants no faulting.
static IS_UNWANTED: AtomicBool = AtomicBool::new(false);

/// True if tracees run with a faulting `CPUID`.
static IS_INTERCEPTED: AtomicBool = AtomicBool::new(false);

/// From now on, this process behaves as if the processor could not be made to trap.
pub fn do_without_faulting() {
    IS_UNWANTED.store(true, Ordering::Relaxed);
}

/// Returns whether the processor can be made to trap on `CPUID`.
pub fn can_fault() -> bool {
    static IS_POSSIBLE: OnceLock<bool> = OnceLock::new();
    !IS_UNWANTED.load(Ordering::Relaxed) && *IS_POSSIBLE.get_or_init(|| set_faulting(false))
}

/// From now on, this process makes `CPUID` trap in every program that it records, if the processor can be made to. The
/// kernel then writes to a register of the processor whenever it switches between such a program and another thread. In a
/// virtual machine that can be slow (measured in one: 9 µs), so it is done only if it is needed.
pub fn intercept_all() {
    IS_INTERCEPTED.store(can_fault(), Ordering::Relaxed);
}

/// Returns whether `CPUID` traps in the programs that this process records.
pub fn is_intercepted() -> bool {
    IS_INTERCEPTED.load(Ordering::Relaxed)
}

/// Makes `CPUID` trap in the calling thread, or not. Returns false if the processor or the kernel cannot do that, or if a
/// seccomp filter around rr forbids it. Async-signal-safe.
pub fn set_faulting(faults: bool) -> bool {
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, u64::from(!faults)) == 0 }
}

/// The answer of the instruction: `eax`, `ebx`, `ecx` and `edx`.
pub type Answer = [u32; 4];

/// The answer of this CPU.
pub fn native(leaf: u32, sub: u32) -> Answer {
    let answer = __cpuid_count(leaf, sub);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// The registers after an instruction at `regs` that has got this answer.
pub fn carried_out(regs: &Registers, answer: Answer) -> Registers {
    let [rax, rbx, rcx, rdx] = answer.map(u64::from);
    Registers {
        rax,
        rbx,
        rcx,
        rdx,
        rip: regs.rip + LEN,
        orig_rax: NOT_IN_SYSCALL,
        // The processor sets this flag when an instruction faults, and clears it after an instruction.
        eflags: regs.eflags & !RF,
        ..*regs
    }
}

/// Leaves of a table: for programs of all processors, of hypervisors, and of AMD or later Intel processors. Their answer
/// does not depend on `ecx`, except for those of [`SUBLEAVES`].
const LEAVES: [u32; 23] = [
    0,
    1,
    2,
    4,
    7,
    0xb,
    0xd,
    0x14,
    0x19,
    0x4000_0000,
    0x4000_0001,
    0x8000_0000,
    0x8000_0001,
    0x8000_0002,
    0x8000_0003,
    0x8000_0004,
    0x8000_0005,
    0x8000_0006,
    0x8000_0007,
    0x8000_0008,
    0x8000_001d,
    0x8000_001e,
    0x8000_001f,
];

/// Returns whether the subleaf with this answer is the last one that says something.
type IsLast = fn(u32, Answer) -> bool;

/// The leaves with subleaves.
const SUBLEAVES: [(u32, IsLast); 6] = [
    // The type of a cache.
    (4, |_, [eax, ..]| eax & 0x1f == 0),
    (0x8000_001d, |_, [eax, ..]| eax & 0x1f == 0),
    // Programs ask for the first two, whatever the first one says.
    (7, |sub, _| sub >= 1),
    // The number of logical processors at a level.
    (0xb, |_, [_, ebx, ..]| ebx & 0xffff == 0),
    // The states that glibc saves are below this one, and it asks for each.
    (0xd, |sub, _| sub >= 9),
    (0x14, |_, _| true),
];

/// In `ecx` of leaf 1: a hypervisor answers.
const HYPERVISOR: u32 = 1 << 31;

/// The answers of a CPU.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table(Vec<CpuidEntry>);

impl Table {
    /// The answers of the CPU that the calling thread runs on.
    pub fn of_this_cpu() -> Table {
        Table::of(&native)
    }

    fn of(ask: &dyn Fn(u32, u32) -> Answer) -> Table {
        let mut table = Table::default();
        for leaf in LEAVES {
            // A range of leaves begins with the number of its last one. The answer for a leaf that is not there is that
            // of some other leaf, or zeros.
            let range = leaf & 0xffff_0000;
            let last = table.get(range, 0).map_or(leaf, |[last, ..]| last);
            let is_hypervisors = range == 0x4000_0000;
            let has_hypervisor = table
                .get(1, 0)
                .is_some_and(|[_, _, ecx, _]| ecx & HYPERVISOR != 0);
            if last & 0xffff_0000 != range || leaf > last || is_hypervisors && !has_hypervisor {
                continue;
            }
            match SUBLEAVES.iter().find(|(with, _)| *with == leaf) {
                None => table.add(leaf, ANY_SUBLEAF, ask(leaf, 0)),
                Some((_, is_last)) => {
                    for sub in 0.. {
                        let answer = ask(leaf, sub);
                        table.add(leaf, sub, answer);
                        if is_last(sub, answer) || sub > 32 {
                            break;
                        }
                    }
                }
            }
        }
        table
    }

    fn add(&mut self, leaf: u32, sub: u32, answer: Answer) {
        if self.0.len() < CPUID_ENTRIES {
            self.0.push(CpuidEntry { leaf, sub, answer });
        }
    }

    /// A table with these entries; `None` if they are too many.
    pub fn from_entries(entries: Vec<CpuidEntry>) -> Option<Table> {
        (entries.len() <= CPUID_ENTRIES).then_some(Table(entries))
    }

    /// The entries.
    pub fn entries(&self) -> &[CpuidEntry] {
        &self.0
    }

    /// The answer for a leaf and a subleaf, if the table has it.
    pub fn get(&self, leaf: u32, sub: u32) -> Option<Answer> {
        let entry = self.0.iter().find(|entry| entry.is_for(leaf, sub))?;
        Some(entry.answer)
    }

    /// The answer for a program: that of the table, or else of this CPU.
    pub fn answer(&self, leaf: u32, sub: u32) -> Answer {
        self.get(leaf, sub).unwrap_or_else(|| native(leaf, sub))
    }

    /// The entries as the library has them.
    pub fn words(&self) -> [CpuidEntry; CPUID_ENTRIES] {
        let mut words = [CpuidEntry::NONE; CPUID_ENTRIES];
        words
            .iter_mut()
            .zip(&self.0)
            .for_each(|(word, entry)| *word = *entry);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_what_the_processor_says() {
        let table = Table::of_this_cpu();
        assert!(!table.entries().is_empty());
        // The number of the CPU is part of leaf 1, and this thread may move.
        assert_eq!(table.get(0, 77), Some(native(0, 0)));
        assert_eq!(table.get(0x8000_0002, 0), Some(native(0x8000_0002, 0)));
        if native(0, 0)[0] >= 7 {
            assert_eq!(table.get(7, 0), Some(native(7, 0)));
            assert_eq!(table.get(7, 9), None);
        }
        assert_eq!(table.get(0x1234_5678, 0), None);
        assert_eq!(Table::from_entries(table.entries().to_vec()), Some(table));
    }

    #[test]
    fn ranges_that_are_not_there_are_left_out() {
        let table = Table::of(&|leaf, _| match leaf {
            0 => [4, 0, 0, 0],
            4 => [0, 1, 2, 3],
            0x4000_0000 => [0, 0, 0, 0],
            0x8000_0000 => [0x8000_0001, 0, 0, 0],
            leaf => [leaf, 0, 0, 0],
        });
        let leaves: Vec<u32> = table.entries().iter().map(|entry| entry.leaf).collect();
        assert_eq!(leaves, [0, 1, 2, 4, 0x8000_0000, 0x8000_0001]);
    }

    #[test]
    fn no_processor_fills_more_than_there_is_room_for() {
        let table = Table::of(&|leaf, _| [leaf | 0xffff, 0xffff, u32::MAX, 1]);
        assert_eq!(table.entries().len(), CPUID_ENTRIES);
        assert!(Table::from_entries(vec![CpuidEntry::NONE; CPUID_ENTRIES + 1]).is_none());
    }

    #[test]
    fn the_instruction_changes_four_registers() {
        let regs = Registers {
            rip: 0x1000,
            rax: u64::MAX,
            rbx: u64::MAX,
            rsi: 7,
            eflags: 0x246 | RF,
            ..Registers::default()
        };
        let after = carried_out(&regs, [1, 2, 3, u32::MAX]);
        let expected = Registers {
            rip: 0x1002,
            rax: 1,
            rbx: 2,
            rcx: 3,
            rdx: u32::MAX.into(),
            orig_rax: NOT_IN_SYSCALL,
            eflags: 0x246,
            ..regs
        };
        assert_eq!(after, expected);
    }

    #[test]
    fn a_thread_can_be_asked_whether_it_may_fault() {
        // On every machine, and without an effect.
        assert_eq!(can_fault(), set_faulting(false));
    }
}

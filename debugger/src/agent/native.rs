//! Tests that a task decides conditions as the interpreter does: random expressions, executed in a process under ptrace(2).

// A broken expectation in a test is a failed test.
#![allow(clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, OnceLock};

use proptest::prelude::*;
use rr_replayer::Trial;
use rr_tracee::rr_area;

use super::opcode::*;
use super::*;

const PAGE: u64 = 4096;
/// Two pages that can be read.
const DATA: u64 = 0x2000_0000;
const CODE: u64 = 0x3000_0000;
/// The place that the breakpoint is said to be at.
const PLACE: Addr = Addr(0x40_1234);
/// Carry, parity, adjust, zero, sign, overflow.
const FLAGS: u64 = 0x8d5;

/// A process with these pages, and the parameter page, that is stopped.
struct Child {
    pid: i32,
    memory: File,
}

fn map(at: u64, len: u64, prot: i32) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: nothing that is mapped is replaced.
    let mapped = unsafe { libc::mmap(at as *mut _, len as usize, prot, flags, -1, 0) };
    mapped as u64 == at
}

impl Child {
    fn start() -> Child {
        // SAFETY: the child makes system calls only.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            let mapped = map(DATA, 2 * PAGE, rw)
                && map(CODE, 8 * PAGE, libc::PROT_READ | libc::PROT_EXEC)
                && map(rr_area::PARAM.0, PAGE, rw);
            // SAFETY: they take no pointers. The process ends with its tracer.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if mapped && libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0 {
                    libc::raise(libc::SIGSTOP);
                }
                libc::_exit(1)
            }
        }
        let path = format!("/proc/{pid}/mem");
        let memory = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let child = Child { pid, memory };
        assert_eq!(child.wait(), libc::SIGSTOP);
        child
    }

    /// The signal that it has stopped with.
    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: the status is written to a local variable.
        let waited = unsafe { libc::waitpid(self.pid, &mut status, 0) };
        assert_eq!(waited, self.pid);
        assert!(libc::WIFSTOPPED(status), "{status:#x}");
        libc::WSTOPSIG(status)
    }

    fn regs(&self) -> libc::user_regs_struct {
        // SAFETY: these are plain numbers.
        let mut regs = unsafe { std::mem::zeroed() };
        // SAFETY: the registers are written to a local variable.
        let got = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, &mut regs) };
        assert_eq!(got, 0);
        regs
    }

    fn go(&self, regs: &libc::user_regs_struct) -> i32 {
        // SAFETY: the registers are read from a reference.
        let set = unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, 0, regs) };
        // SAFETY: no pointers.
        let resumed = unsafe { libc::ptrace(libc::PTRACE_CONT, self.pid, 0, 0) };
        assert_eq!((set, resumed), (0, 0));
        self.wait()
    }

    /// Says if the code finds the condition true, or cannot tell.
    fn decides(&self, trial: &Trial, values: &[u64; 16], flags: u64) -> bool {
        self.memory.write_all_at(&trial.code, CODE).unwrap();
        let mut regs = self.regs();
        let [
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            rsp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
        ] = *values;
        regs = libc::user_regs_struct {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            rsp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip: CODE,
            eflags: regs.eflags & !FLAGS | flags & FLAGS,
            orig_rax: u64::MAX,
            ..regs
        };
        let before = regs;
        let mut signal = self.go(&regs);
        if signal == libc::SIGSEGV {
            regs = self.regs();
            assert!(regs.rip < CODE + trial.after_fault as u64);
            regs.rip = CODE + trial.after_fault as u64;
            signal = self.go(&regs);
        }
        assert_eq!(signal, libc::SIGTRAP);
        let after = self.regs();
        let words = |r: libc::user_regs_struct| {
            [
                r.rax,
                r.rbx,
                r.rcx,
                r.rdx,
                r.rsi,
                r.rdi,
                r.rbp,
                r.rsp,
                r.r8,
                r.r9,
                r.r10,
                r.r11,
                r.r12,
                r.r13,
                r.r14,
                r.r15,
                r.eflags & FLAGS,
            ]
        };
        assert_eq!(
            words(after),
            words(before),
            "registers and flags are as they were"
        );
        let at = (after.rip - 1 - CODE) as usize;
        assert!(at == trial.yes || at == trial.no, "{at:#x} of {trial:?}");
        at == trial.yes
    }
}

/// The bytes of the pages with data.
fn data() -> Vec<u8> {
    let mut state = 1u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..2 * PAGE).map(byte).collect()
}

fn read(data: &[u8], addr: Addr, buf: &mut [u8]) -> bool {
    let bytes = addr
        .0
        .checked_sub(DATA)
        .and_then(|n| data.get(n as usize..)?.get(..buf.len()));
    bytes.map(|bytes| buf.copy_from_slice(bytes)).is_some()
}

/// Expressions as gdb makes them, and some that it does not.
#[derive(Clone, Debug)]
enum Tree {
    Constant(u64),
    Small(u8),
    Register(u8),
    /// A word at an address that can be read.
    Word(u8, u64),
    Read(u8, Box<Tree>),
    Unary(u8, Box<Tree>),
    Extend(u8, u8, Box<Tree>),
    Binary(u8, Box<Tree>, Box<Tree>),
    /// The operands in the other order.
    Swapped(u8, Box<Tree>, Box<Tree>),
    /// `if a then b else c`
    If(Box<Tree>, Box<Tree>, Box<Tree>),
    /// The three in another order, and two operations.
    Rotated(u8, u8, Box<Tree>, Box<Tree>, Box<Tree>),
    Squared(u8, Box<Tree>),
    Dropped(Box<Tree>, Box<Tree>),
    Picked(u8, u8, Box<Tree>, Box<Tree>),
}

impl Tree {
    fn code(&self, code: &mut Vec<u8>) {
        match self {
            Tree::Constant(value) => {
                code.push(CONST64);
                code.extend(value.to_be_bytes());
            }
            Tree::Small(value) => code.extend([CONST8, *value]),
            Tree::Register(n) => code.extend([REG, 0, *n]),
            Tree::Word(op, offset) => {
                code.push(CONST32);
                code.extend(((DATA + offset) as u32).to_be_bytes());
                code.push(*op);
            }
            Tree::Read(op, a) | Tree::Unary(op, a) => {
                a.code(code);
                code.push(*op);
            }
            Tree::Extend(op, bits, a) => {
                a.code(code);
                code.extend([*op, *bits]);
            }
            Tree::Binary(op, a, b) => {
                a.code(code);
                b.code(code);
                code.push(*op);
            }
            Tree::Swapped(op, a, b) => {
                a.code(code);
                b.code(code);
                code.extend([SWAP, *op]);
            }
            Tree::If(a, b, c) => {
                a.code(code);
                let to_then = code.len() + 1;
                code.extend([IF_GOTO, 0, 0]);
                c.code(code);
                let to_end = code.len() + 1;
                code.extend([GOTO, 0, 0]);
                let then = code.len() as u16;
                code[to_then..to_then + 2].copy_from_slice(&then.to_be_bytes());
                b.code(code);
                let end = code.len() as u16;
                code[to_end..to_end + 2].copy_from_slice(&end.to_be_bytes());
            }
            Tree::Rotated(first, second, a, b, c) => {
                a.code(code);
                b.code(code);
                c.code(code);
                code.extend([ROT, *first, *second]);
            }
            Tree::Squared(op, a) => {
                a.code(code);
                code.extend([DUP, *op]);
            }
            Tree::Dropped(a, b) => {
                a.code(code);
                b.code(code);
                code.push(POP);
            }
            Tree::Picked(first, second, a, b) => {
                a.code(code);
                b.code(code);
                code.extend([PICK, 1, *first, *second]);
            }
        }
    }
}

const BINARY: [u8; 16] = [
    ADD,
    SUB,
    MUL,
    DIV_SIGNED,
    DIV_UNSIGNED,
    REM_SIGNED,
    REM_UNSIGNED,
    LSH,
    RSH_SIGNED,
    RSH_UNSIGNED,
    BIT_AND,
    BIT_OR,
    BIT_XOR,
    EQUAL,
    LESS_SIGNED,
    LESS_UNSIGNED,
];
const READS: [u8; 4] = [REF8, REF16, REF32, REF64];

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..100,
        (0u64..100).prop_map(u64::wrapping_neg),
        Just(1 << 63),
        Just(i64::MAX as u64),
        (DATA..DATA + 2 * PAGE),
        // Half of it is there.
        Just(DATA + 2 * PAGE - 2),
    ]
}

fn binary() -> impl Strategy<Value = u8> {
    prop::sample::select(&BINARY[..])
}

fn reads() -> impl Strategy<Value = u8> {
    prop::sample::select(&READS[..])
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        number().prop_map(Tree::Constant),
        any::<u8>().prop_map(Tree::Small),
        (0u8..17).prop_map(Tree::Register),
        (reads(), 0..2 * PAGE - 8).prop_map(|(op, offset)| Tree::Word(op, offset)),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let a = || inner.clone().prop_map(Box::new);
        prop_oneof![
            4 => (binary(), a(), a()).prop_map(|(op, a, b)| Tree::Binary(op, a, b)),
            1 => (reads(), a()).prop_map(|(op, a)| Tree::Read(op, a)),
            1 => (prop::sample::select(&[LOG_NOT, BIT_NOT][..]), a()).prop_map(|(op, a)| Tree::Unary(op, a)),
            2 => (prop::sample::select(&[EXT, ZERO_EXT][..]), 0u8..70, a())
                .prop_map(|(op, bits, a)| Tree::Extend(op, bits, a)),
            1 => (binary(), a(), a()).prop_map(|(op, a, b)| Tree::Swapped(op, a, b)),
            2 => (a(), a(), a()).prop_map(|(a, b, c)| Tree::If(a, b, c)),
            1 => (binary(), binary(), a(), a(), a()).prop_map(|(p, q, a, b, c)| Tree::Rotated(p, q, a, b, c)),
            1 => (binary(), a()).prop_map(|(op, a)| Tree::Squared(op, a)),
            1 => (a(), a()).prop_map(|(a, b)| Tree::Dropped(a, b)),
            1 => (binary(), binary(), a(), a()).prop_map(|(p, q, a, b)| Tree::Picked(p, q, a, b)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn the_task_and_the_interpreter_agree(
        tree in tree(),
        values in prop::array::uniform16(number()),
        flags in any::<u64>(),
    ) {
        static CHILD: OnceLock<Mutex<Child>> = OnceLock::new();
        let data = data();
        let child = CHILD.get_or_init(|| {
            let child = Child::start();
            child.memory.write_all_at(&data, DATA).unwrap();
            Mutex::new(child)
        });
        let child = child.lock().unwrap();
        let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15] = values;
        let registers = Registers {
            rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15,
            rip: PLACE.0,
            ..Registers::default()
        };
        let agree = |code: Vec<u8>| {
            let expression = Expression::new(code);
            let wanted = expression.evaluate(&registers, &mut |addr, buf| read(&data, addr, buf));
            let trial = expression.program().map(|program| Trial::of(&program, PLACE));
            if let Some(Some(trial)) = trial {
                let seen = child.decides(&trial, &values, flags);
                assert_eq!(seen, wanted != Ok(0), "{wanted:?} of {expression:?}");
            } else {
                // Too many values, or too long: the interpreter does it alone.
                assert!(expression.code.len() > 60, "{expression:?}");
            }
            wanted
        };
        let mut code = Vec::new();
        tree.code(&mut code);
        let mut plain = code.clone();
        plain.push(END);
        // The very value, too: whether it is another than the interpreter's.
        if let Ok(value) = agree(plain) {
            code.push(CONST64);
            code.extend(value.to_be_bytes());
            code.extend([EQUAL, LOG_NOT, END]);
            prop_assert_eq!(agree(code), Ok(0));
        }
    }
}

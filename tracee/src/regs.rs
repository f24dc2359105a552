//! General registers and extended (FPU, SSE, AVX …) state of a task.

/// The general registers in the kernel's layout (`struct user_regs_struct`, `<sys/user.h>`).
///
/// The field order is the ABI's; traces store the 27 words in this order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
#[allow(missing_docs)] // the fields are the processor's registers
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system call number while in a system call; otherwise −1 in rr.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// Names of the words of [`Registers::words`], for reports.
pub const REGISTER_NAMES: [&str; Registers::WORDS] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
    "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
];

/// The trap flag (Intel SDM vol. 1, 3.4.3).
pub const TF: u64 = 1 << 8;
/// The resume flag.
pub const RF: u64 = 1 << 16;
/// The status flags in `eflags`: carry, parity, adjust, zero, sign and overflow.
pub const STATUS_FLAGS: u64 = 0x8d5;

/// `orig_rax` of a task that is not in a system call.
pub const NOT_IN_SYSCALL: u64 = u64::MAX;

/// Returns whether the result of a system call is `ERESTARTSYS`, `ERESTARTNOINTR`, `ERESTARTNOHAND` or
/// `ERESTART_RESTARTBLOCK` (include/linux/errno.h). The kernel uses these internally when a signal
/// interrupts a call. Programs never see them.
pub fn is_restart(result: i64) -> bool {
    matches!(result, -512 | -513 | -514 | -516)
}

impl Registers {
    /// Number of 64-bit words.
    pub const WORDS: usize = 27;

    /// All registers as words, in ABI order.
    pub fn words(&self) -> [u64; Self::WORDS] {
        [
            self.r15,
            self.r14,
            self.r13,
            self.r12,
            self.rbp,
            self.rbx,
            self.r11,
            self.r10,
            self.r9,
            self.r8,
            self.rax,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.orig_rax,
            self.rip,
            self.cs,
            self.eflags,
            self.rsp,
            self.ss,
            self.fs_base,
            self.gs_base,
            self.ds,
            self.es,
            self.fs,
            self.gs,
        ]
    }

    /// The inverse of [`Registers::words`].
    pub fn from_words(w: &[u64; Self::WORDS]) -> Registers {
        let [
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            orig_rax,
            rip,
            cs,
            eflags,
            rsp,
            ss,
            fs_base,
            gs_base,
            ds,
            es,
            fs,
            gs,
        ] = *w;
        Registers {
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            orig_rax,
            rip,
            cs,
            eflags,
            rsp,
            ss,
            fs_base,
            gs_base,
            ds,
            es,
            fs,
            gs,
        }
    }

    /// The registers of a task that is not in a system call.
    pub fn outside_call(self) -> Registers {
        Registers {
            orig_rax: NOT_IN_SYSCALL,
            ..self
        }
    }

    /// The registers with the arguments that another system call was made with.
    pub fn with_arguments_of(self, call: &Registers) -> Registers {
        let mut with = self;
        (0..6).for_each(|n| with.set_arg(n, call.arg(n)));
        with
    }

    /// The registers without the resume flag (Intel SDM vol. 1, 3.4.3), which tells how the processor
    /// came to a stop and is not part of the program's state.
    pub fn without_resume_flag(self) -> Registers {
        Registers {
            eflags: self.eflags & !RF,
            ..self
        }
    }

    /// The program's own state: without a current system call and the resume flag.
    pub fn of_program(self) -> Registers {
        self.outside_call().without_resume_flag()
    }

    /// The number of the system call that the task is in (valid at an entry stop).
    pub fn syscall(&self) -> i64 {
        self.orig_rax as i64
    }

    /// System call argument `n`, 0 to 5 (syscall(2): rdi, rsi, rdx, r10, r8, r9).
    pub fn arg(&self, n: usize) -> u64 {
        match n {
            0 => self.rdi,
            1 => self.rsi,
            2 => self.rdx,
            3 => self.r10,
            4 => self.r8,
            _ => self.r9,
        }
    }

    /// Sets system call argument `n`, 0 to 5.
    pub fn set_arg(&mut self, n: usize, value: u64) {
        match n {
            0 => self.rdi = value,
            1 => self.rsi = value,
            2 => self.rdx = value,
            3 => self.r10 = value,
            4 => self.r8 = value,
            _ => self.r9 = value,
        }
    }

    /// The result of a system call (valid at an exit stop).
    pub fn result(&self) -> i64 {
        self.rax as i64
    }

    /// The names and values of all registers in which two states differ.
    pub fn differences(&self, other: &Registers) -> Vec<(&'static str, u64, u64)> {
        let (a, b) = (self.words(), other.words());
        (0..Self::WORDS)
            .filter(|&i| a[i] != b[i])
            .map(|i| (REGISTER_NAMES[i], a[i], b[i]))
            .collect()
    }
}

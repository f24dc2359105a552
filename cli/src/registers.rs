//! Registers as text.

use rr_tracee::Registers;

/// All registers that a user may care about, with their names, in rr's order.
pub fn named(r: &Registers) -> [(&'static str, u64); 20] {
    [
        ("rax", r.rax),
        ("rbx", r.rbx),
        ("rcx", r.rcx),
        ("rdx", r.rdx),
        ("rsi", r.rsi),
        ("rdi", r.rdi),
        ("rbp", r.rbp),
        ("rsp", r.rsp),
        ("r8", r.r8),
        ("r9", r.r9),
        ("r10", r.r10),
        ("r11", r.r11),
        ("r12", r.r12),
        ("r13", r.r13),
        ("r14", r.r14),
        ("r15", r.r15),
        ("rip", r.rip),
        ("eflags", r.eflags),
        ("fs_base", r.fs_base),
        ("gs_base", r.gs_base),
    ]
}

/// Registers on one line: `rax:0x0 rbx:0x1 …`.
pub fn line(regs: &Registers) -> String {
    let words: Vec<String> = named(regs)
        .iter()
        .map(|(name, value)| format!("{name}:{value:#x}"))
        .collect();
    words.join(" ")
}

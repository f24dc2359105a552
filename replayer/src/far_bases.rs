//! Bases of FS and GS beyond the program's addresses.
//!
//! A program can set them by instructions of its own (`WRFSBASE`, `WRGSBASE`; Intel SDM vol. 2), and they stay when it uses neither
//! segment. The kernel refuses them from anybody else: ptrace(2) and arch_prctl(2) take only addresses of the program. So a restored
//! task executes such an instruction itself, in rr's code.

use rr_tracee::task::Resume;
use rr_tracee::{Error, Registers, Result, USER_END, rr_area};

use crate::interrupt::Never;
use crate::task::{Ran, Task};

/// `wrfsbase rax` and `wrgsbase rax`.
const SET_FS: [u8; 5] = [0xf3, 0x48, 0x0f, 0xae, 0xd0];
const SET_GS: [u8; 5] = [0xf3, 0x48, 0x0f, 0xae, 0xd8];

/// Sets the registers of a new task, with bases that the kernel would refuse.
pub(crate) fn set_first_regs(task: &mut Task, regs: &Registers) -> Result<()> {
    let bases = [(regs.fs_base, SET_FS), (regs.gs_base, SET_GS)];
    for (base, instruction) in bases.into_iter().filter(|(base, _)| *base >= USER_END) {
        let now = task.all_regs()?;
        task.memory().write(rr_area::SINGLE_INSN, &instruction)?;
        task.stopped()?.set_regs(&Registers {
            rip: rr_area::SINGLE_INSN.0,
            rax: base,
            ..now.outside_call()
        })?;
        if let Ran::Gone(_) = task.run(Resume::Step, &mut Never)? {
            return Err(Error::Died(task.real));
        }
    }
    task.stopped()?.set_regs(regs)
}

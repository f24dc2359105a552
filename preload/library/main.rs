//! The library inside every tracee. While recording it makes system calls that need no stop, and writes
//! their results down. In replay it returns the recorded results. `../src/layout.rs` shows the path of
//! a call and the memory.
//!
//! The library runs wherever the program makes a system call. It uses its own small stack and does not
//! touch the program's (not even below the stack pointer). It has no libc, heap or thread-local
//! storage. It never waits: it makes a call that could block only when it knows that the call will not,
//! and leaves the call to the recorder otherwise. Only one task of an address space runs at a time, and
//! no task is stopped in the library on purpose. So the library is never entered twice.

#![no_std]
#![no_main]

#[path = "../src/layout.rs"]
#[allow(dead_code)]
mod layout;
#[path = "../src/payload.rs"]
#[allow(dead_code)]
mod payload;

mod call;
mod calls;
mod file;
mod kernel;
mod message;
#[allow(dead_code)]
mod numbers;
mod outputs;
mod polling;
mod probe;
mod records;
mod shaping;
mod sockets;

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use call::Call;
use layout::Frame;

// The beginning of the image. layout.rs gives the offset of each entry.
//
// The compiler uses the SSE registers to copy things, and the program does not expect a system call to change them.
global_asm!(
    ".section .text.start, \"ax\"",
    ".global start, kernel_call",
    "start:",
    "kernel_call:",
    "syscall",
    "ret",
    ".balign 16, 0xcc",
    // BAIL
    "mov esp, {frame}",
    "jmp 2f",
    ".balign 16, 0xcc",
    // REMOTE
    "3:",
    "pop rax",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop r10",
    "pop r8",
    "pop r9",
    // This returns to the address on the list (the next instruction), so that the list can be
    // read-only.
    "jmp kernel_call",
    "4:",
    "dec ebx",
    "jz 5f",
    "cmp rax, -4095",
    "jb 3b",
    "5:",
    "mov rbp, rax",
    "mov eax, {last}",
    "syscall",
    ".balign 8, 0xcc",
    ".quad 4b",
    ".balign 16, 0xcc",
    // ENTRY
    "mov qword ptr ds:[{rsp}], rsp",
    "mov esp, {stack_end}",
    "pushfq",
    "cld",
    "push r15",
    "push r14",
    "push r13",
    "push r12",
    "push r11",
    "push r10",
    "push r9",
    "push r8",
    "push rbp",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push rbx",
    "push rax",
    "mov rdi, rsp",
    "sub rsp, 256",
    "movaps [rsp], xmm0",
    "movaps [rsp + 16], xmm1",
    "movaps [rsp + 32], xmm2",
    "movaps [rsp + 48], xmm3",
    "movaps [rsp + 64], xmm4",
    "movaps [rsp + 80], xmm5",
    "movaps [rsp + 96], xmm6",
    "movaps [rsp + 112], xmm7",
    "movaps [rsp + 128], xmm8",
    "movaps [rsp + 144], xmm9",
    "movaps [rsp + 160], xmm10",
    "movaps [rsp + 176], xmm11",
    "movaps [rsp + 192], xmm12",
    "movaps [rsp + 208], xmm13",
    "movaps [rsp + 224], xmm14",
    "movaps [rsp + 240], xmm15",
    "call {handle}",
    "2:",
    "mov qword ptr ds:[{busy}], 0",
    "movaps xmm0, [rsp]",
    "movaps xmm1, [rsp + 16]",
    "movaps xmm2, [rsp + 32]",
    "movaps xmm3, [rsp + 48]",
    "movaps xmm4, [rsp + 64]",
    "movaps xmm5, [rsp + 80]",
    "movaps xmm6, [rsp + 96]",
    "movaps xmm7, [rsp + 112]",
    "movaps xmm8, [rsp + 128]",
    "movaps xmm9, [rsp + 144]",
    "movaps xmm10, [rsp + 160]",
    "movaps xmm11, [rsp + 176]",
    "movaps xmm12, [rsp + 192]",
    "movaps xmm13, [rsp + 208]",
    "movaps xmm14, [rsp + 224]",
    "movaps xmm15, [rsp + 240]",
    "add rsp, 256",
    "pop rax",
    "pop rbx",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rbp",
    "pop r8",
    "pop r9",
    "pop r10",
    "pop r11",
    "pop r12",
    "pop r13",
    "pop r14",
    "pop r15",
    "popfq",
    "mov rsp, qword ptr ds:[{rsp}]",
    "jmp qword ptr ds:[{go_on}]",
    last = const layout::REMOTE_LAST as u32,
    frame = const (layout::FRAME - XMM_BYTES) as u32,
    stack_end = const layout::STACK_END as u32,
    rsp = const layout::CONTROL as u32 + core::mem::offset_of!(layout::Control, rsp) as u32,
    go_on = const layout::CONTROL as u32 + core::mem::offset_of!(layout::Control, go_on) as u32,
    busy = const layout::CONTROL as u32 + core::mem::offset_of!(layout::Control, busy) as u32,
    handle = sym handle,
);

const XMM_BYTES: u64 = 256;

/// Handles the call whose registers are `frame`, if the library can. Otherwise changes nothing.
extern "C" fn handle(frame: &mut Frame) {
    let control = layout::CONTROL as *mut layout::Control;
    // SAFETY: recorder and replayer map the control page wherever they map this code.
    let site = unsafe { core::mem::replace(&mut (*control).site, layout::site::CALL) };
    let call = match site {
        layout::site::COUNTER => Call {
            number: layout::COUNTER_NUMBER,
            args: [0; 6],
        },
        layout::site::COUNTER_AND_PROCESSOR => Call {
            number: layout::COUNTER_AND_PROCESSOR_NUMBER,
            args: [0; 6],
        },
        layout::site::CPUID => Call {
            number: layout::CPUID_NUMBER,
            args: [frame.rax as u32 as u64, frame.rcx as u32 as u64, 0, 0, 0, 0],
        },
        _ => Call {
            number: frame.rax,
            args: [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9],
        },
    };
    // The recorder writes `traced` and then reads `busy`. The library writes `busy` and then reads
    // `traced`, with a full barrier in between (the swap is one). So at least one of them sees the
    // other's write: either the recorder sees that this call is under way, or the library sees that it
    // must leave the call to the recorder.
    // SAFETY: the word is in the control page, aligned, and only ever accessed as a whole.
    unsafe { AtomicU64::from_ptr(&raw mut (*control).busy) }.swap(1, Ordering::SeqCst);
    // SAFETY: recorder and replayer map the control page wherever they map this code. The read of
    // `traced` is volatile because the recorder may change it at any time.
    let (mode, traced, go_on, rsp) = unsafe {
        (
            (&raw const (*control).mode).read_volatile(),
            (&raw const (*control).traced).read_volatile(),
            (*control).go_on,
            (*control).rsp,
        )
    };
    let result = match mode {
        layout::mode::RECORD if traced & layout::traced::ALL == 0 => {
            records::record(&call, traced, go_on ^ rsp)
        }
        layout::mode::REPLAY => records::replay(&call, go_on ^ rsp),
        _ => None,
    };
    if let Some(result) = result {
        // Set the registers as the replaced instruction would.
        let len = match site {
            layout::site::COUNTER => {
                set_counter(frame, result);
                2
            }
            layout::site::COUNTER_AND_PROCESSOR => {
                set_counter(frame, result);
                // SAFETY: as above. The word has just been written, through another pointer.
                frame.rcx = unsafe { (&raw const (*control).processor).read_volatile() };
                3
            }
            layout::site::CPUID => match set_answer(frame) {
                true => 2,
                false => 0,
            },
            _ => {
                frame.rax = result as u64;
                // The kernel leaves its return address and the flags in these registers.
                frame.rcx = go_on + 2;
                frame.r11 = frame.rflags;
                2
            }
        };
        // SAFETY: as above.
        unsafe { (*control).go_on = go_on + len };
    }
}

/// Sets the registers that hold an answer of `cpuid`. Returns whether the answer is known.
fn set_answer(frame: &mut Frame) -> bool {
    let Some([rax, rbx, rcx, rdx]) = calls::cpuid(frame.rax, frame.rcx) else {
        return false;
    };
    (frame.rax, frame.rbx, frame.rcx, frame.rdx) = (rax.into(), rbx.into(), rcx.into(), rdx.into());
    true
}

/// Sets the registers that hold the time-stamp counter.
fn set_counter(frame: &mut Frame, value: i64) {
    frame.rax = value as u64 & 0xffff_ffff;
    frame.rdx = value as u64 >> 32;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: `ud2` ends in a signal. Recorder and replayer recognise that as a bug in rr.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

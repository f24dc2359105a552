//! Options of the original rr. Most need nothing here: they are accepted without a word, and `--help` does not list them.

use clap::ValueEnum;
use rr_tracee::cpuid::{Hidden, Level};

/// Sizes of the original's buffer in KiB, one for each thread.
const BUFFER_KIB: std::ops::RangeInclusive<u64> = 4..=1 << 20;

/// Options of `rr record`.
#[derive(clap::Args, Debug)]
pub struct RecordOptions {
    /// Inside another recording: an error; or `ignore`, run PROG as a part of that one
    #[arg(long, value_name = "error|ignore", default_value = "default")]
    pub nested: Nested,
    /// The buffer here has one size
    #[arg(long, value_name = "KIB", hide = true, value_parser = kib)]
    syscall_buffer_size: Option<u64>,
    /// No signal tells rr that a buffered call blocks
    #[arg(long, value_name = "SIG", hide = true, value_parser = crate::signals::parse)]
    syscall_buffer_sig: Option<i32>,
    /// For the original's own tests
    #[arg(long, hide = true)]
    scarce_fds: bool,
    /// Calls of the vDSO are recorded here
    #[arg(long, hide = true)]
    unmap_vdso: bool,
    /// Data that was read is never shared with a file here
    #[arg(long, hide = true)]
    no_read_cloning: bool,
    /// Files of a trace may share their blocks or not
    #[arg(long, hide = true)]
    no_file_cloning: bool,
    /// Files that change outside are told without it
    #[arg(long, hide = true)]
    check_outside_mmaps: bool,
    /// Hide features of the processor, so that the trace can be replayed where they are not: bits of ecx and edx of CPUID
    /// leaf 1
    #[arg(long, value_name = "ECX[,EDX]", value_parser = masks::<2>)]
    disable_cpuid_features: Option<Masks<2>>,
    /// The same for ebx, ecx and edx of leaf 7
    #[arg(long, value_name = "EBX[,ECX[,EDX]]", value_parser = masks::<3>)]
    disable_cpuid_features_ext: Option<Masks<3>>,
    /// The same for eax of leaf 13, subleaf 1
    #[arg(long, value_name = "EAX", value_parser = masks::<1>)]
    disable_cpuid_features_xsave: Option<Masks<1>>,
    /// Hide AVX-512
    #[arg(long)]
    disable_avx_512: bool,
}

/// The option of `rr record` and `rr ci` for traces that are replayed elsewhere.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct PortableOption {
    /// Show the program a processor of this level of the psABI, so that the trace can be replayed on all that have it: x86-64-v2 (SSE4.2;
    /// without a value), or x86-64-v3 (AVX2)
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = Level::V2.name())]
    pub portable: Option<Level>,
}

/// Bits of registers, in the order of the option.
type Masks<const N: usize> = [u32; N];

/// One to `N` masks, decimal or with `0x`.
fn masks<const N: usize>(text: &str) -> Result<Masks<N>, String> {
    let mut masks = [0; N];
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > N {
        return Err(format!("at most {N} masks"));
    }
    for (mask, part) in masks.iter_mut().zip(parts) {
        let parsed = match part.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => part.parse(),
        };
        *mask = parsed.map_err(|e| format!("{part}: {e}"))?;
    }
    Ok(masks)
}

/// The choice for a recording inside another one.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nested {
    /// Same as `error`.
    #[value(hide = true)]
    Default,
    /// Refuse.
    Error,
    /// Run the program as a part of the other recording.
    Ignore,
    /// Not possible here: make a recording of its own.
    #[value(hide = true)]
    Detach,
    /// Not possible here: run the program without a recording.
    #[value(hide = true)]
    Release,
}

fn kib(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(size) if BUFFER_KIB.contains(&size) => Ok(size),
        _ => Err(format!("{} to {} KiB", BUFFER_KIB.start(), BUFFER_KIB.end())),
    }
}

impl RecordOptions {
    /// The features that the program is not shown.
    pub fn hidden(&self) -> Vec<Hidden> {
        let of = |leaf, sub, bits| Hidden { leaf, sub, bits };
        let mut hidden = Vec::new();
        hidden.extend(self.disable_cpuid_features.map(|[c, d]| of(1, 0, [0, 0, c, d])));
        hidden.extend(
            self.disable_cpuid_features_ext
                .map(|[b, c, d]| of(7, 0, [0, b, c, d])),
        );
        hidden.extend(
            self.disable_cpuid_features_xsave
                .map(|[a]| of(0xd, 1, [a, 0, 0, 0])),
        );
        if self.disable_avx_512 {
            hidden.extend(Hidden::AVX_512);
        }
        hidden
    }
}

/// Options of `rr replay`.
#[derive(clap::Args, Debug)]
pub struct ReplayOptions {
    /// For the original's own tests
    #[arg(long, hide = true)]
    share_private_mappings: bool,
}

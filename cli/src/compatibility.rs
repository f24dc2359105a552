//! Options of the original rr that scripts pass and that need nothing here.
//!
//! They are accepted without a word, and `--help` does not list them. [`RecordOptions::refused`] names
//! those that ask for what this rr does not do.

use clap::ValueEnum;

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
    /// Masks features of the CPU
    #[arg(long, value_name = "MASKS", hide = true)]
    disable_cpuid_features: Option<String>,
    /// Masks features of the CPU
    #[arg(long, value_name = "MASKS", hide = true)]
    disable_cpuid_features_ext: Option<String>,
    /// Masks features of the CPU
    #[arg(long, value_name = "MASK", hide = true)]
    disable_cpuid_features_xsave: Option<String>,
    /// Masks features of the CPU
    #[arg(long, hide = true)]
    disable_avx_512: bool,
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
    /// Says what is asked for and not done, if anything.
    pub fn refused(&self) -> Option<&'static str> {
        let masks = [
            &self.disable_cpuid_features,
            &self.disable_cpuid_features_ext,
            &self.disable_cpuid_features_xsave,
        ];
        let is_masked = self.disable_avx_512 || masks.iter().any(|mask| mask.is_some());
        is_masked.then_some("this rr cannot hide features of the CPU: the program sees all of them")
    }
}

/// Options of `rr replay`.
#[derive(clap::Args, Debug)]
pub struct ReplayOptions {
    /// For the original's own tests
    #[arg(long, hide = true)]
    share_private_mappings: bool,
}

//! Compares the processor that a trace was recorded on with the one here, before the first event.
//!
//! The program's instructions run here as they ran there. So all features that the program was shown must be here, and the
//! same components of extended state, whose size and number programs read without `CPUID` (`XGETBV`). Nothing else of the
//! processor has to be the same: the answers of `CPUID` are the trace's.

use std::sync::OnceLock;

use rr_trace::Header;
use rr_tracee::cpuid::Table;

use crate::error::{Error, Result};

/// Checks that a trace can be replayed on this processor, and warns of what may be different.
pub(crate) fn check(header: &Header) -> Result<()> {
    static HERE: OnceLock<Table> = OnceLock::new();
    let recorded = &header.cpuid;
    if recorded.entries().is_empty() {
        // The recorder did not answer any CPUID, and older traces do not say what their processor has.
        return Ok(());
    }
    let here = HERE.get_or_init(Table::of_this_cpu);
    if let Some(why) = obstacle(recorded, here) {
        return Err(Error::Machine {
            why,
            model: header.cpu_model.clone(),
        });
    }
    if recorded.vendor() != here.vendor() {
        tracing::warn!(
            "this was recorded on a processor of another make ({}): instructions that only approximate (rcpps, rsqrtps) may give \
             other values here",
            header.cpu_model
        );
    }
    let signature = |table: &Table| table.get(1, 0).map(|[eax, ..]| eax);
    if !header.cpuid_faulting && signature(recorded) != signature(here) {
        tracing::warn!(
            "this was recorded on another processor ({}): code that asks for the processor, in files without unwind tables or made \
             by the program itself, will diverge",
            header.cpu_model
        );
    }
    Ok(())
}

/// The reason why a program that was shown one processor cannot run on another one.
fn obstacle(recorded: &Table, here: &Table) -> Option<String> {
    let missing = recorded.features_beyond(here);
    if !missing.is_empty() {
        let names = missing.join(", ");
        return Some(format!(
            "it has not the features that the program was shown: {names} (rr record --disable-cpuid-features and its like hide \
             features)"
        ));
    }
    match (recorded.state_components(), here.state_components()) {
        (there, here) if there == here => None,
        (there, here) => Some(format!(
            "it has other components of extended state (XCR0): {:#x}, and not {:#x}",
            here.unwrap_or(0),
            there.unwrap_or(0)
        )),
    }
}

#[cfg(test)]
mod tests {
    use rr_preload::layout::{ANY_SUBLEAF, CpuidEntry};

    use super::*;

    fn table(ecx: u32, components: u32) -> Table {
        let entry = |leaf, sub, answer| CpuidEntry { leaf, sub, answer };
        let entries = vec![
            entry(1, ANY_SUBLEAF, [0, 0, ecx, 0]),
            entry(0xd, 0, [components, 0, 0, 0]),
        ];
        Table::from_entries(entries).unwrap()
    }

    #[test]
    fn what_is_missing_is_named() {
        const SSE3_AND_AVX: u32 = 1 << 28 | 1;
        assert_eq!(obstacle(&table(1, 7), &table(SSE3_AND_AVX, 7)), None);
        let missing = obstacle(&table(SSE3_AND_AVX, 7), &table(1, 7)).unwrap();
        assert!(missing.contains("was shown: avx ("), "{missing}");
        let other = obstacle(&table(1, 0xe7), &table(1, 7)).unwrap();
        assert!(other.contains("0x7, and not 0xe7"), "{other}");
    }
}
